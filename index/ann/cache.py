"""The files beside a collection's database, derived from it to open and search faster: vectors, graph, manifest.

All of it is derived: what is lost, or is not as the manifest says, counts as none and is made again. Files are written
whole under names of their own, then the manifest is replaced, then the files before them are removed. The manifest
names the write after which the vectors were taken, and its random token: beside a database that was restored to an
earlier state, and then went another way, the files are known to be another's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from encoder_tools.io.files import replacing, write_bytes
from encoder_tools.protocols import FloatMatrix
from index.ann.ann_index import AnnIndex
from index.ann.index_types import AnnIndexType
from index.ann.snapshot import Snapshot
from index.ann.tuning import KS, Recall, Tuning
from index.storage.vector_block import Block

MANIFEST_NAME = "manifest.json"
_VERSION = 3
_SUFFIX = ".bin"
_FILES = ("vectors", "graph", "queries")
_PART = 2**22  # bytes that are read at a time


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
    :ivar efforts: of a search, and ``recall`` what it was measured to find; see :class:`index.ann.tuning.Tuning`.
    :ivar queries: file of ``recent`` vectors that were searched for, if any are remembered.
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
    efforts: dict[int, int]
    recall: Recall
    queries: File | None = None
    recent: int = 0


def save(folder: Path, graph: AnnIndex, snapshot: Snapshot, fingerprint: str, queries: FloatMatrix) -> Manifest:
    """Write a graph, the vectors that it is over, and their manifest; in parts, so that nothing is copied whole.

    :param snapshot: that the graph was built of.
    :param queries: that are remembered (n, dim).
    :raises SaveError: if the disk is full or read-only; what was there before still serves.
    """
    positions = np.searchsorted(snapshot.rows, graph.rows)
    step = max(1, _PART // (4 * snapshot.vectors.shape[1]))

    def write_vectors(write: Callable[[bytes], int]) -> None:
        write(graph.rows.astype("<i8").tobytes())
        for start in range(0, len(positions), step):
            write(snapshot.vectors[positions[start : start + step]].astype("<f4").tobytes())

    vectors = _write(folder, "vectors", write_vectors)
    links = _write(folder, "graph", lambda write: graph.kind.write(graph.index, write))
    count, dim = len(graph.rows), snapshot.vectors.shape[1]
    made = Manifest(
        _VERSION, fingerprint, *snapshot.write_token, count, dim, vectors, links, graph.kind.name, *graph.tuning
    )
    return save_tuning(folder, made, graph.tuning, queries)


def save_tuning(folder: Path, manifest: Manifest, tuning: Tuning, queries: FloatMatrix) -> Manifest:
    """Write a manifest with another tuning, and the queries that it was made with.

    :raises SaveError: as :func:`save`.
    """
    data = queries.astype("<f4").tobytes()
    file = _write(folder, "queries", lambda write: write(data)) if len(queries) else None
    made = msgspec.structs.replace(
        manifest, efforts=tuning.efforts, recall=tuning.recall, queries=file, recent=len(queries)
    )
    write_bytes(folder / MANIFEST_NAME, msgspec.json.encode(made))
    kept = {name.name for name in (made.vectors, made.graph, made.queries) if name is not None}
    for kind in _FILES:
        for path in folder.glob(f"{kind}-*{_SUFFIX}"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
    return made


def read_manifest(folder: Path, fingerprint: str, dim: int) -> tuple[Manifest | None, str]:
    """What a folder says that it has, if that is of this model; else None, and why."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None, f"there is no {MANIFEST_NAME} on disk"
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return None, f"what is on disk is damaged ({error})"
    if manifest.format_version != _VERSION or (manifest.fingerprint, manifest.dim) != (fingerprint, dim):
        return None, "what is on disk is of another version or model"
    efforts = [manifest.efforts.get(k, 0) for k in KS]
    if manifest.rows < 1 or min(efforts) < 1 or manifest.vectors.size != manifest.rows * (8 + 4 * dim):
        return None, "what is on disk is damaged (its manifest says what cannot be)"
    return manifest, ""


def read_vectors(folder: Path, manifest: Manifest, into: Block) -> str:
    """Fill a block with the rows and vectors of a manifest; what is wrong with them, or nothing."""
    return _read(folder, manifest.vectors, into.rows, into.vectors)


def read_queries(folder: Path, manifest: Manifest) -> FloatMatrix:
    """The queries that are remembered (n, dim); none if they are not as the manifest says."""
    queries = np.empty((manifest.recent if manifest.queries else 0, manifest.dim), dtype=np.float32)
    if manifest.queries is None or _read(folder, manifest.queries, queries) or not np.isfinite(queries).all():
        return queries[:0]
    return queries


def read_graph(folder: Path, manifest: Manifest, block: Block, kind: AnnIndexType) -> tuple[AnnIndex | None, str]:
    """What leads to the vectors of a manifest, if it is whole and of a kind; else None, and why."""
    if manifest.kind != kind.name:
        return None, f"what is on disk is of kind {manifest.kind!r}"
    why = _wrong_size(folder, manifest.graph) or _wrong_checksum(folder, manifest.graph)
    if why:
        return None, why
    try:
        with (folder / manifest.graph.name).open("rb") as file:
            index = kind.read(file, block.vectors)
    except (OSError, RuntimeError) as error:
        return None, f"what is on disk cannot be read ({error})"
    return AnnIndex(kind, index, block.rows.copy(), Tuning(manifest.efforts, manifest.recall)), "it was on disk"


def _write(folder: Path, kind: str, fill: Callable[[Callable[[bytes], int]], object]) -> File:
    """Write a file in parts."""
    name = f"{kind}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
    state, size = xxhash.xxh3_64(), 0
    with replacing(folder / name) as file:

        def write(data: bytes) -> int:
            nonlocal size
            file.write(data)
            state.update(data)
            size += len(data)
            return len(data)

        fill(write)
    return File(name, size, state.hexdigest())


def _wrong_checksum(folder: Path, file: File) -> str:
    """Why a file is not what its manifest says, or nothing."""
    state = xxhash.xxh3_64()
    try:
        with (folder / file.name).open("rb", buffering=0) as opened:
            while data := opened.read(_PART):
                state.update(data)
    except OSError as error:
        return f"what is on disk cannot be read ({error})"
    return "" if state.hexdigest() == file.checksum else _not_as_said(file)


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
