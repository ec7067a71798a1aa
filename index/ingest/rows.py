"""Rows of files into a collection, in batches; unusable rows are rejected with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from encoder_tools.aliases import Reject, Row
from encoder_tools.errors import InputError, UnstorableError
from encoder_tools.io.columns import DocumentColumns
from encoder_tools.io.rows import Numbered
from index.collection.collection import Collection
from index.documents.chunking import Chunking
from index.results import Document, DocumentId
from index.validation import check_ids, check_metadata, texts_for_ids


class Ingested(NamedTuple):
    """How many rows were stored, found stored as they are, and rejected."""

    stored: int = 0
    unchanged: int = 0
    rejected: int = 0

    def plus(self, other: Ingested) -> Ingested:
        """The sum of both."""
        return Ingested(*(left + right for left, right in zip(self, other, strict=True)))


def ingest(
    collection: Collection,
    rows: Iterable[Numbered],
    columns: DocumentColumns,
    reject: Reject,
    *,
    batch: int = 256,
    chunking: Chunking | None = None,
    seen: set[DocumentId] | None = None,
    known_vectors: Mapping[str, Any] | None = None,
) -> Iterator[Ingested]:
    """Store rows; what is stored already, word by word, is not encoded again, so that an interrupted run resumes fast.

    :param chunking: store the texts in pieces; counted are the rows.
    :param seen: is given the id of each document.
    :param known_vectors: see :meth:`index.collection.writes.WrittenCollection.upsert`.
    :return: what came of each batch, which is on disk by then.
    :raises SaveError: if the disk is full; what was yielded is stored.
    """
    waiting: dict[DocumentId, _Waiting] = {}
    rejected = 0
    seen = set() if seen is None else seen
    for number, row in rows:
        try:
            document = _document(number, row, columns)
        except InputError as error:
            reject(number, str(error), row)
            rejected += 1
            seen |= _id_in(row, columns)
            continue
        seen.add(document.id)
        if document.id in waiting or len(waiting) == batch:  # a later row of the same id replaces the earlier one
            yield _store(collection, waiting, chunking, reject, known_vectors)
            waiting = {}
        waiting[document.id] = _Waiting(document, number, row)
    yield _store(collection, waiting, chunking, reject, known_vectors).plus(Ingested(rejected=rejected))


class _Waiting(NamedTuple):
    document: Document
    number: int
    row: Row


def _document(number: int, row: Row, columns: DocumentColumns) -> Document:
    identifier, text, metadata = columns.parts(number, row)
    (checked,) = check_ids([identifier])
    texts_for_ids([text], 1)
    check_metadata([metadata], 1)
    return Document(checked, text, metadata)


def _store(
    collection: Collection,
    waiting: Mapping[DocumentId, _Waiting],
    chunking: Chunking | None,
    reject: Reject,
    known: Mapping[str, Any] | None,
) -> Ingested:
    if not waiting:
        return Ingested()
    if chunking is not None:
        return _store_pieces(collection, list(waiting.values()), chunking, reject, known)
    stored = collection.get(list(waiting))
    new = [one for one, old in zip(waiting.values(), stored, strict=True) if one.document != old]
    rejected = _store_new(collection, new, reject, known) if new else 0
    return Ingested(len(new) - rejected, len(waiting) - len(new), rejected)


def _store_new(collection: Collection, new: Sequence[_Waiting], reject: Reject, known: Mapping[str, Any] | None) -> int:
    """Store what the engine can store; how many rows were rejected."""
    try:
        collection.upsert(*_columns([one.document for one in new]), known_vectors=known)
    except UnstorableError as error:
        if len(new) == 1:
            reject(new[0].number, str(error), new[0].row)
            return 1
        middle = len(new) // 2
        return sum(_store_new(collection, half, reject, known) for half in (new[:middle], new[middle:]))
    return 0


def _id_in(row: Row, columns: DocumentColumns) -> set[DocumentId]:
    """The id of a row that cannot be stored, if it has one: what is stored under it has not gone."""
    identifier = row.get(columns.identifier)
    return {identifier} if isinstance(identifier, str | int) and not isinstance(identifier, bool) else set()


def _store_pieces(
    collection: Collection,
    waiting: Sequence[_Waiting],
    chunking: Chunking,
    reject: Reject,
    known: Mapping[str, Any] | None,
) -> Ingested:
    documents = _columns([one.document for one in waiting])
    try:
        written = collection.upsert(*documents, chunking=chunking, known_vectors=known)
    except InputError as error:  # of one of them: without words, or with a field that pieces use
        if len(waiting) == 1:
            reject(waiting[0].number, str(error), waiting[0].row)
            return Ingested(rejected=1)
        total = Ingested()
        for one in waiting:
            total = total.plus(_store_pieces(collection, [one], chunking, reject, known))
        return total
    return Ingested(written, len(waiting) - written)


def _columns(documents: Sequence[Document]) -> tuple[list[DocumentId], list[str], list[dict[str, Any]]]:
    return [one.id for one in documents], [one.text for one in documents], [one.metadata for one in documents]
