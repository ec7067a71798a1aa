"""Copies of collections from one engine to another, while the source is in use.

A copy is made in passes: what differs by its checksum is written, what the source no longer has is deleted. So an
interrupted copy resumes by being made again, and what the source writes meanwhile is caught up with. At the end the two
are compared, document by document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.model.embedding_space import Space
from encoder_tools.protocols import FloatMatrix
from index.collection.collection import Collection
from index.collection.engine import Engine
from index.query.view import DocumentReader
from index.results import DocumentId
from index.storage.precision import Storage
from index.storage.schema import About
from index.storage.writer import Batch
from index.validation import check_metadata

_AT_ONCE = 500
_PASSES = 20  # over a source that is written to all the time

Progress = Callable[[int, int], None]


class Copied(NamedTuple):
    """What a copy did.

    :ivar target: where it is, as errors name it.
    :ivar documents: that the target has, each chunk counted; ``written`` and ``deleted`` of them in this run.
    :ivar exact: whether the vectors are the same bit for bit; else they are of the target's coarser precision.
    """

    target: str
    documents: int
    written: int
    deleted: int
    exact: bool


@dataclass(frozen=True)
class _Described:
    """Stands for the model of a collection, which encodes nothing here."""

    dim: int
    fingerprint: str
    space: Space

    def encode_document(self, texts: Sequence[str]) -> FloatMatrix:
        """Nothing is encoded.

        :raises InputError: always.
        """
        raise InputError("A copy has no model, so it encodes no text. Open the collection with its model.")

    encode_query = encode = encode_document


def copy_collection(
    source: Collection, address: str, *, storage: Storage | None = None, progress: Progress = lambda _done, _count: None
) -> Copied:
    """Copy a collection to an address, which may have an earlier, unfinished copy of it.

    :param address: a folder, or an address of another engine.
    :param storage: of a new target; None for the source's, or the nearest that the engine has.
    :param progress: called with how many documents were looked at, and of how many.
    :raises InputError: if the target holds another model's vectors.
    :raises FileCorruptError: if the two are not the same at the end.

    Example:
        >>> from encoder_tools import OnnxEncoder
        >>> from index import Collection
        >>> from index.engines.copying import copy_collection
        >>> with Collection.create("faq", OnnxEncoder()) as source:
        ...     source.upsert([1, 2], ["Block a card", "Exchange rates"])
        ...     copy_collection(source, "copy").documents
        2
        2
    """
    with _target(source.about, address, storage) as target:
        run = _Copy(source.opened, target.opened)
        for _ in range(_PASSES):
            before = source.sequence
            run.bring_over(progress)
            run.delete_what_is_gone()
            if source.sequence == before:
                break
        documents = run.compared()
        exact = np.dtype(source.about.dtype).itemsize <= np.dtype(target.about.dtype).itemsize
        return Copied(str(target.folder), documents, run.written, run.deleted, exact)


def _target(about: About, address: str, storage: Storage | None) -> Collection:
    try:
        target = Collection.open(address, None)
    except FileMissingError:
        model = _Described(about.dim, about.fingerprint, Space(about.space, about.space))
        kept: Storage = storage or about.storage  # type: ignore[assignment]
        if storage is None and "://" in address and kept in ("int8", "binary"):
            kept = "float16"  # which is what these keep on disk
        Collection.create(address, model, storage=kept).close()
        target = Collection.open(address, None)
    if (target.about.dim, target.about.fingerprint) != (about.dim, about.fingerprint):
        target.close()
        raise InputError(
            f"{target.folder} holds vectors of model {target.about.fingerprint}, the source those of "
            f"{about.fingerprint}. Copy to another address."
        )
    return target


class _Copy:
    """One run."""

    def __init__(self, source: Engine, target: Engine) -> None:
        self._source, self._target = source, target
        self._same = source.about.dtype == target.about.dtype
        self.written = self.deleted = 0

    def bring_over(self, progress: Progress) -> None:
        """Write what the target does not have so."""
        row, done = -1, 0
        while True:
            with self._source.reading() as reader:
                page = reader.checksums_after(row, _AT_ONCE)
                if not page:
                    return
                differing = self._differing(page)
                batches = list(_batches(reader, differing))
                count = reader.count()
            for batch, vectors in batches:
                if not self._target.writes.upsert(batch, vectors, self._target.about):
                    raise InputError(f"{self._target.folder} was re-embedded meanwhile. Copy it again.")
                self.written += len(batch.ids)
            row, done = page[-1][0], done + len(page)
            progress(min(done, count), count)

    def _differing(self, page: Sequence[tuple[int, DocumentId, int, int]]) -> list[int]:
        """Rows of a page that the target has not, or has otherwise."""
        with self._target.reading() as reader:
            known = {line[1]: line[2:] for line in reader.checksums_of([line[1] for line in page])}
        return [row for row, name, *sums in page if not self._alike(sums, known.get(name))]

    def _alike(self, sums: Sequence[int], known: Sequence[int] | None) -> bool:
        if known is None:
            return False
        return tuple(sums) == tuple(known) if self._same else sums[0] == known[0]

    def delete_what_is_gone(self) -> None:
        """Take out of the target what the source does not have."""
        with self._source.reading() as reader:
            names = set(reader.ids())
        with self._target.reading() as reader:
            gone = [name for name in reader.ids() if name not in names]
        if gone:
            self.deleted += self._target.writes.delete(gone)

    def compared(self) -> int:
        """How many documents both have, all of them alike.

        :raises FileCorruptError: naming the first that is not.
        """
        row, count = -1, 0
        with self._source.reading() as source, self._target.reading() as target:
            while page := source.checksums_after(row, _AT_ONCE):
                known = {line[1]: line[2:] for line in target.checksums_of([line[1] for line in page])}
                for _, name, *sums in page:
                    if not self._alike(sums, known.get(name)):
                        raise FileCorruptError(
                            f"{self._target.folder} does not have {name!r} as {self._source.folder} has it. Was either "
                            "written to all the time? Copy again."
                        )
                row, count = page[-1][0], count + len(page)
            if target.count() != count:
                raise FileCorruptError(
                    f"{self._target.folder} has {target.count()} documents, {self._source.folder} has {count}. Copy "
                    "again."
                )
        return count


def _batches(reader: DocumentReader, rows: Sequence[int]) -> Iterator[tuple[Batch, FloatMatrix]]:
    """Documents and their vectors, in the order of their rows; the chunks of a document together."""
    sources = reader.sources_of(rows)
    seen: set[DocumentId] = set()
    for whole, some in groupby(rows, key=lambda row: sources[row] is None):
        if whole:
            chosen = list(some)
        else:
            documents = [one for one in dict.fromkeys(sources[row] for row in some) if one is not None]
            new = [one for one in documents if one not in seen]
            seen |= set(new)
            pieces = reader.pieces_of(new)
            chosen = [row for one in new for row in pieces[one]]  # also those of the next page
            sources |= reader.sources_of(chosen)
        if chosen:
            yield _batch(reader, chosen, None if whole else [sources[row] for row in chosen])


def _batch(
    reader: DocumentReader, rows: Sequence[int], sources: Sequence[DocumentId | None] | None
) -> tuple[Batch, FloatMatrix]:
    by_row, vectors = reader.by_rows(rows), reader.vectors_by_row(rows)
    documents = [by_row[row] for row in rows]
    metadata = check_metadata([document.metadata for document in documents], len(documents))
    named = None if sources is None else [source for source in sources if source is not None]
    batch = Batch([one.id for one in documents], [one.text for one in documents], metadata, named)
    return batch, np.array([vectors[row] for row in rows], dtype=np.float32)
