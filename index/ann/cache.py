"""The files beside a collection's database, derived from it to open and search faster: rows, vectors, graph, manifest.

All of it is derived: what is lost, or is not as the manifest says, counts as none and is made again. Files are written
whole under names of their own, then the manifest is replaced, then the files before them are removed. The manifest
names the write after which the vectors were taken, and its random token: beside a database that was restored to an
earlier state, and then went another way, the files are known to be another's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from encoder_tools.io.files import write_bytes
from encoder_tools.protocols import FloatMatrix
from index.ann.ann_index import AnnIndex
from index.ann.index_types import AnnIndexType, with_finer
from index.ann.tuning import KS, Easy, Recall, Tuning
from index.memory.codes import Coding
from index.memory.derived_files import File, not_as_said, read_into, sweep, write_file, wrong
from index.memory.snapshot import Snapshot
from index.storage.schema import About
from index.storage.vector_block import Base, WriteToken

MANIFEST_NAME = "manifest.json"
_VERSION = 4
_FILES = ("rows", "vectors", "graph", "queries")
_PART = 2**22  # bytes that are read at a time


class _Format(msgspec.Struct, frozen=True):
    """What the manifest of any version says."""

    format_version: int


class Manifest(msgspec.Struct, frozen=True):
    """What there is.

    :ivar fingerprint: of the model that made the vectors.
    :ivar sequence: of the write after which they were taken, ``token`` that write's.
    :ivar count: how many rows there are.
    :ivar rows: file of as many int64 row numbers, and a byte for each that says whether it was a document then.
    :ivar vectors: file of as many vectors of width ``dim``, in the precision of ``storage``; none if they are read from
        the database.
    :ivar graph: file of FAISS's bytes of what leads to them, ``kind`` what that is.
    :ivar step: of the codes that the graph holds, 0 if it holds vectors, and ``residual``; see
        :class:`index.memory.codes.Coding`.
    :ivar efforts: of a search, ``easy`` and ``recall``: see :class:`index.ann.tuning.Tuning`.
    :ivar queries: file of ``recent`` vectors that were searched for, if any are remembered.
    """

    format_version: int
    fingerprint: str
    sequence: int
    token: str
    storage: str
    count: int
    dim: int
    rows: File
    vectors: File | None
    graph: File
    kind: str
    step: float
    residual: float
    efforts: dict[int, int]
    recall: Recall
    easy: dict[int, Easy]
    queries: File | None = None
    recent: int = 0


def save(folder: Path, graph: AnnIndex, snapshot: Snapshot, about: About, queries: FloatMatrix) -> Manifest:
    """Write a graph, the rows and vectors that it is over, and their manifest; nothing is copied whole.

    :param snapshot: that the graph was built or grown of.
    :param queries: that are remembered (n, dim).
    :raises SaveError: if the disk is full or read-only; what was there before still serves.
    """
    located, alive = snapshot.located(graph.rows)
    step = max(1, _PART // (4 * about.dim))

    def write_rows(write: Callable[[bytes], int]) -> None:
        write(graph.rows.astype("<i8").tobytes())
        write(alive.astype("u1").tobytes())

    def write_vectors(write: Callable[[bytes], int]) -> None:
        for start in range(0, len(graph.rows), step):
            there = alive[start : start + step]
            vectors = np.zeros((len(there), about.dim), dtype=about.dtype)  # of those that have gone nobody asks
            vectors[there] = snapshot.vectors.take(located[start : start + step][there])
            write(vectors.tobytes())

    made = Manifest(
        _VERSION,
        about.fingerprint,
        *snapshot.write_token,
        about.storage,
        len(graph.rows),
        about.dim,
        write_file(folder, "rows", write_rows),
        write_file(folder, "vectors", write_vectors) if about.held else None,
        write_file(folder, "graph", lambda write: graph.kind.write(graph.index, write)),
        graph.kind.name,
        *(graph.coding or Coding(0.0, 0.0)),
        graph.tuning.efforts,
        graph.tuning.recall,
        graph.tuning.easy,
    )
    return save_tuning(folder, made, graph.tuning, queries)


def save_tuning(folder: Path, manifest: Manifest, tuning: Tuning, queries: FloatMatrix) -> Manifest:
    """Write a manifest with another tuning, and the queries that it was made with.

    :raises SaveError: as :func:`save`.
    """
    data = queries.astype("<f4").tobytes()
    file = write_file(folder, "queries", lambda write: write(data)) if len(queries) else None
    made = msgspec.structs.replace(
        manifest, efforts=tuning.efforts, recall=tuning.recall, easy=tuning.easy, queries=file, recent=len(queries)
    )
    write_bytes(folder / MANIFEST_NAME, msgspec.json.encode(made))
    kept = {file.name for file in (made.rows, made.vectors, made.graph, made.queries) if file is not None}
    sweep(folder, _FILES, kept)
    return made


def read_manifest(folder: Path, about: About) -> tuple[Manifest | None, str]:
    """What a folder says that it has, if that is of these vectors; else None, and why."""
    try:
        data = (folder / MANIFEST_NAME).read_bytes()
        if msgspec.json.decode(data, type=_Format).format_version != _VERSION:
            return None, "what is on disk is of another version"
        manifest = msgspec.json.decode(data, type=Manifest)
    except FileNotFoundError:
        return None, f"there is no {MANIFEST_NAME} on disk"
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return None, f"what is on disk is damaged ({error})"
    if (manifest.fingerprint, manifest.dim, manifest.storage) != (about.fingerprint, about.dim, about.storage):
        return None, "what is on disk is of another model"
    efforts = [manifest.efforts.get(k, 0) for k in KS]
    sizes = [manifest.rows.size == 9 * manifest.count, (manifest.vectors is not None) == about.held]
    if manifest.vectors is not None:
        sizes.append(manifest.vectors.size == manifest.count * about.dim * np.dtype(about.dtype).itemsize)
    if manifest.count < 1 or min(efforts) < 1 or not all(sizes) or not 0 <= manifest.step < np.inf:
        return None, "what is on disk is damaged (its manifest says what cannot be)"
    return manifest, ""


def read_base(folder: Path, manifest: Manifest, about: About) -> tuple[Base | None, str]:
    """Rows and vectors of a manifest, the latter mapped; None if they are not as it says, and why."""
    rows, alive = np.empty(manifest.count, dtype="<i8"), np.empty(manifest.count, dtype="u1")
    why = read_into(folder, manifest.rows, rows, alive)
    if why:
        return None, why
    if (np.diff(rows) <= 0).any() or alive.max(initial=0) > 1:
        return None, not_as_said(manifest.rows)
    vectors = None
    if manifest.vectors is not None:
        why = wrong(folder, manifest.vectors)
        if why:
            return None, why
        try:
            path = folder / manifest.vectors.name
            vectors = np.memmap(path, dtype=about.dtype, mode="r", shape=(manifest.count, about.dim))
        except (OSError, ValueError) as error:
            return None, f"what is on disk cannot be read ({error})"
    token = WriteToken(manifest.sequence, manifest.token)
    return Base(token, rows.astype(np.int64, copy=False), alive.astype(bool), vectors), ""


def read_queries(folder: Path, manifest: Manifest) -> FloatMatrix:
    """The queries that are remembered (n, dim); none if they are not as the manifest says."""
    queries = np.empty((manifest.recent if manifest.queries else 0, manifest.dim), dtype=np.float32)
    if manifest.queries is None or read_into(folder, manifest.queries, queries) or not np.isfinite(queries).all():
        return queries[:0]
    return queries


def read_graph(
    folder: Path, manifest: Manifest, rows: NDArray[np.int64], kind: AnnIndexType, *, checked: bool = False
) -> tuple[AnnIndex | None, str]:
    """What leads to the vectors of a manifest, if it is whole and of a kind; else None, and why.

    :param checked: it was written just now.
    """
    kinds = [one for one in with_finer(kind) if (one.name, one.coded) == (manifest.kind, manifest.step > 0)]
    if not kinds:
        return None, f"what is on disk is of kind {manifest.kind!r}"
    kind = kinds[0]
    why = "" if checked else wrong(folder, manifest.graph)
    if why:
        return None, why
    path = folder / manifest.graph.name
    try:
        index = kind.read(path, mapped=True)
    except (OSError, RuntimeError) as error:
        return None, f"what is on disk cannot be read ({error})"
    if (index.ntotal, index.d) != (manifest.count, manifest.dim):
        return None, not_as_said(manifest.graph)
    coding = Coding(manifest.step, manifest.residual) if kind.coded else None
    tuning = Tuning(manifest.efforts, manifest.recall, manifest.easy)
    return AnnIndex(kind, index, rows, coding, tuning, path), "it was on disk"
