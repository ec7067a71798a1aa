"""The graph of a collection on disk: one file, and a manifest that vouches for it.

Both are derived: a manifest that cannot be read, or a file that is not as it says, counts as none, and is built again.
The file is written whole under a name of its own, then the manifest is replaced, then the file before it is removed.
"""

from __future__ import annotations

import uuid
import zlib
from pathlib import Path

import msgspec
import numpy as np

from encoder_tools.files import write_bytes
from index.graph import Graph

MANIFEST_NAME = "manifest.json"
_VERSION = 1
_PREFIX, _SUFFIX = "graph-", ".bin"


class Manifest(msgspec.Struct, frozen=True):
    """What the file must be.

    :ivar fingerprint: of the model that made the vectors.
    :ivar rows: how many int64 row numbers the file begins with; FAISS's bytes follow.
    :ivar checksum: CRC-32 of the file.
    """

    format_version: int
    fingerprint: str
    file: str
    size: int
    checksum: int
    rows: int
    effort: int
    recall: float


def save_graph(folder: Path, graph: Graph, fingerprint: str) -> None:
    """Write a graph and its manifest.

    :raises SaveError: if the disk is full or read-only; what was there before still serves.
    """
    data = graph.rows.astype("<i8").tobytes() + graph.to_bytes().tobytes()
    name = f"{_PREFIX}{uuid.uuid4().hex[:12]}{_SUFFIX}"
    write_bytes(folder / name, data)
    made = Manifest(
        _VERSION, fingerprint, name, len(data), zlib.crc32(data), len(graph), graph.effort, round(graph.recall, 4)
    )
    write_bytes(folder / MANIFEST_NAME, msgspec.json.encode(made))
    for file in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        if file.name != name:
            file.unlink(missing_ok=True)


def load_graph(folder: Path, fingerprint: str) -> tuple[Graph | None, str]:
    """The graph that a folder holds, if it is whole and of this model; else None, and why."""
    try:
        found = msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=Manifest)
        if found.format_version != _VERSION or found.fingerprint != fingerprint:
            return None, "the graph on disk is of another version or model"
        data = _checked(folder, found)
    except FileNotFoundError as error:
        return None, f"there is no {Path(str(error.filename)).name} on disk"
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return None, f"the graph on disk is damaged ({error})"
    rows = np.frombuffer(data, dtype="<i8", count=found.rows).astype(np.int64)
    stored = np.frombuffer(data, dtype=np.uint8, offset=8 * found.rows)
    return Graph.from_bytes(stored, rows, found.effort, found.recall), "it was on disk"


def _checked(folder: Path, found: Manifest) -> bytes:
    if Path(found.file).name != found.file or found.rows < 1 or found.effort < 1:
        raise ValueError("its manifest names what cannot be")
    data = (folder / found.file).read_bytes()
    if len(data) != found.size or zlib.crc32(data) != found.checksum or 8 * found.rows >= len(data):
        raise ValueError(f"{found.file} is not as its manifest says")
    return data
