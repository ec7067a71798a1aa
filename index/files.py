"""What a collection keeps beside its database, to open and to search faster: vectors, a graph over them, a manifest.

All of it is derived: what is lost, or is not as the manifest says, counts as none and is made again. Files are written
whole under names of their own, then the manifest is replaced, then the files before them are removed. The manifest
names the write after which the vectors were taken, and its random token: beside a database that was put back to an
earlier state, and then went another way, the files are known to be another's.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from encoder_tools.files import write_bytes
from encoder_tools.protocols import FloatMatrix
from index.approximate import Approximate
from index.blocks import Block, Mark
from index.kinds import ApproximateKind

MANIFEST_NAME = "manifest.json"
_VERSION = 2
_SUFFIX = ".bin"
_KINDS = ("vectors", "graph")


class File(msgspec.Struct, frozen=True):
    """What a file must be.

    :ivar checksum: XXH3-64 of it.
    """

    name: str
    size: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True):
    """What there is.

    :ivar fingerprint: of the model that made the vectors.
    :ivar sequence: of the write after which they were taken, ``token`` that write's.
    :ivar vectors: file of ``rows`` int64 row numbers and as many vectors, float32 of width ``dim``.
    :ivar graph: file of FAISS's bytes of what leads to them, ``kind`` what that is.
    """

    format_version: int
    fingerprint: str
    sequence: int
    token: str
    rows: int
    dim: int
    vectors: File
    graph: File
    kind: str
    effort: int
    recall: float


def save(folder: Path, graph: Approximate, vectors: FloatMatrix, mark: Mark, fingerprint: str) -> None:
    """Write a graph, the vectors that it is over, and their manifest.

    :raises SaveError: if the disk is full or read-only; what was there before still serves.
    """
    links = graph.to_bytes()
    base = graph.rows.astype("<i8").tobytes() + np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    first, second = _write(folder, "vectors", base), _write(folder, "graph", links.tobytes())
    count, dim = vectors.shape
    recall = round(graph.recall, 4)
    made = Manifest(_VERSION, fingerprint, *mark, count, dim, first, second, graph.kind.name, graph.effort, recall)
    write_bytes(folder / MANIFEST_NAME, msgspec.json.encode(made))
    kept = {first.name, second.name}
    for kind in _KINDS:
        for path in folder.glob(f"{kind}-*{_SUFFIX}"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def read_manifest(folder: Path, fingerprint: str, dim: int) -> tuple[Manifest | None, str]:
    """What a folder says that it has, if that is of this model; else None, and why."""
    try:
        found = msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None, f"there is no {MANIFEST_NAME} on disk"
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return None, f"what is on disk is damaged ({error})"
    if found.format_version != _VERSION or (found.fingerprint, found.dim) != (fingerprint, dim):
        return None, "what is on disk is of another version or model"
    if found.rows < 1 or found.effort < 1 or found.vectors.size != found.rows * (8 + 4 * dim):
        return None, "what is on disk is damaged (its manifest says what cannot be)"
    return found, ""


def read_vectors(folder: Path, found: Manifest, into: Block) -> str:
    """Fill a block with the rows and vectors of a manifest; what is wrong with them, or nothing."""
    return _read(folder, found.vectors, into.rows, into.vectors)


def read_graph(folder: Path, found: Manifest, block: Block, kind: ApproximateKind) -> tuple[Approximate | None, str]:
    """What leads to the vectors of a manifest, if it is whole and of a kind; else None, and why."""
    if found.kind != kind.name:
        return None, f"what is on disk is of kind {found.kind!r}"
    why = _wrong_size(folder, found.graph)
    data = np.empty(0 if why else found.graph.size, dtype=np.uint8)
    why = why or _read(folder, found.graph, data)
    if why:
        return None, why
    return Approximate.from_bytes(kind, data, block, found.effort, found.recall), "it was on disk"


def _write(folder: Path, kind: str, data: bytes) -> File:
    name = f"{kind}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
    write_bytes(folder / name, data)
    return File(name, len(data), xxhash.xxh3_64_hexdigest(data))


def _wrong_size(folder: Path, file: File) -> str:
    """Why a file is not to be read, or nothing."""
    if Path(file.name).name != file.name:
        return "what is on disk is damaged (its manifest names what is elsewhere)"
    try:
        size = (folder / file.name).stat().st_size
    except FileNotFoundError:
        return f"there is no {file.name} on disk"
    except (OSError, ValueError) as error:
        return f"what is on disk cannot be read ({error})"
    return "" if size == file.size else _not_as_said(file)


def _read(folder: Path, file: File, *into: NDArray[Any]) -> str:
    """Fill arrays from a file; what is wrong with it, or nothing."""
    why = _wrong_size(folder, file)
    if why or sum(part.nbytes for part in into) != file.size:
        return why or _not_as_said(file)
    state = xxhash.xxh3_64()
    try:
        with (folder / file.name).open("rb", buffering=0) as opened:
            for part in into:
                view = memoryview(part.data).cast("B")
                _fill(opened, view)
                state.update(view)
    except OSError as error:
        return f"what is on disk cannot be read ({error})"
    return "" if state.hexdigest() == file.checksum else _not_as_said(file)


def _not_as_said(file: File) -> str:
    return f"what is on disk is damaged ({file.name} is not as its manifest says)"


def _fill(file: Any, view: memoryview) -> None:
    """Read until a view is full: one call reads two gigabytes at most."""
    at = 0
    while at < len(view):
        count = file.readinto(view[at:])
        if not count:
            raise OSError("it ended early")
        at += count
