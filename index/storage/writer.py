"""Writes to a collection's tables, inside a transaction of :meth:`index.storage.database.Database.writing`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from index.results import DocumentId
from index.storage import fts as lexical
from index.storage import shadow_vectors as generations
from index.storage.schema import About, document_checksum, vector_lines

_ADDED, _GONE = 1, 0
_LOGGED, _LOGGED_SHARE = 100_000, 2  # entries of the log, and times as many as there are documents, that are kept
_ID = "DELETE FROM documents WHERE id = ?1 OR source = ?1 RETURNING row, text, source"
_ROW = "DELETE FROM documents WHERE row = ?1 RETURNING row, text, NULL"


class Batch(NamedTuple):
    """Rows to be written.

    :ivar ids: distinct.
    :ivar metadata: JSON objects.
    :ivar sources: of pieces, the id of the document that each is a piece of; None for whole documents.
    """

    ids: Sequence[DocumentId]
    texts: Sequence[str]
    metadata: Sequence[str]
    sources: Sequence[DocumentId] | None = None


def upsert(connection: sqlite3.Connection, batch: Batch, vectors: FloatMatrix, about: About) -> None:
    """Store documents or pieces in new rows, and take out all rows of the documents with the same ids.

    :param vectors: unit vectors (n, dim), ``about`` what they are.
    :raises InputError: if another document has the id of a piece.
    """
    gone = _gone(connection, list(dict.fromkeys(batch.ids if batch.sources is None else batch.sources)))
    if batch.sources is not None:
        _check_free(connection, batch.ids)
    first = _next_row(connection)
    rows = range(first, first + len(batch.ids))
    sources: Sequence[DocumentId | None] = batch.sources or [None] * len(batch.ids)
    checksums = map(document_checksum, batch.ids, batch.texts, batch.metadata, sources)
    documents = zip(rows, batch.ids, batch.texts, batch.metadata, checksums, sources, strict=True)
    connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)", documents)
    lexical.add(connection, lexical.words_to_write(connection), rows, batch.texts)
    connection.executemany("INSERT INTO vectors VALUES (?, ?, ?)", vector_lines(rows, vectors, about))
    _note(connection, gone, rows)


def delete(connection: sqlite3.Connection, ids: Sequence[DocumentId]) -> int:
    """Take out the documents with these ids, and their pieces; return how many rows that were."""
    gone = _gone(connection, ids)
    if gone:
        _note(connection, gone, ())
    return len(gone)


def delete_rows(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Take out the documents in these rows."""
    gone = _gone(connection, rows, _ROW)
    if gone:
        _note(connection, gone, ())


def trim(connection: sqlite3.Connection, kept: Callable[[], int | None]) -> None:
    """Trim the change log if it has grown long; who has not followed it loads all vectors again.

    :param kept: gives the number of the write that is still wanted from, if any.
    """
    meta = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('sequence', 'count', 'logged')"))
    if meta["logged"] <= _LOGGED_SHARE * meta["count"] + _LOGGED:
        return
    keep_from = kept()
    last = meta["sequence"] - 1  # others have followed until now
    if keep_from is not None and meta["logged"] <= 2 * (_LOGGED_SHARE * meta["count"] + _LOGGED):
        last = min(last, keep_from)
    connection.execute("DELETE FROM log WHERE sequence <= ?", (last,))
    connection.execute("DELETE FROM writes WHERE sequence < ?", (last,))
    connection.execute("UPDATE meta SET value = (SELECT count(*) FROM log) WHERE key = 'logged'")


def _gone(connection: sqlite3.Connection, values: Iterable[DocumentId], query: str = _ID) -> list[int]:
    """Take out documents, their vectors and their words; return their rows."""
    gone: list[int] = []
    words = lexical.words_to_write(connection)
    for value in values:
        # fetchall, not fetchone: the statement must be finished before the next one
        for row, text, source in connection.execute(query, (value,)).fetchall():
            if source is not None and (source, type(source)) != (value, type(value)):
                raise chunk_of_another(value, source)
            lexical.take_out(connection, words, row, text)
            gone.append(row)
    connection.executemany("DELETE FROM vectors WHERE row = ?", ((row,) for row in gone))
    if gone and generations.coming(connection) is not None:
        connection.executemany("DELETE FROM next_vectors WHERE row = ?", ((row,) for row in gone))
    return gone


def _check_free(connection: sqlite3.Connection, ids: Iterable[DocumentId]) -> None:
    for identifier in ids:
        if connection.execute("SELECT 1 FROM documents WHERE id = ?", (identifier,)).fetchone() is not None:
            raise id_taken(identifier)


def chunk_of_another(identifier: DocumentId, source: DocumentId) -> InputError:
    """What to raise where a chunk is named whose document would stay."""
    return InputError(
        f"{identifier!r} is a piece of the document {source!r}, which would be left without it. Name the document "
        "instead. Nothing was changed."
    )


def id_taken(identifier: DocumentId) -> InputError:
    """What to raise where a chunk would get the id of another document."""
    return InputError(f"Another document has the id {identifier!r}, which a piece would get. Rename one of them.")


def _next_row(connection: sqlite3.Connection) -> int:
    """Above every row that ever was."""
    line = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'documents'").fetchone()
    return 1 if line is None else int(line[0]) + 1


def _note(connection: sqlite3.Connection, gone: Sequence[int], added: Sequence[int]) -> None:
    sequence = int(connection.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()[0]) + 1
    entries = [*((sequence, row, _GONE) for row in gone), *((sequence, row, _ADDED) for row in added)]
    connection.executemany("INSERT INTO log VALUES (?, ?, ?)", entries)
    connection.execute("INSERT INTO writes VALUES (?, randomblob(16))", (sequence,))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'sequence'", (sequence,))
    connection.execute("UPDATE meta SET value = value + ? WHERE key = 'count'", (len(added) - len(gone),))
    connection.execute("UPDATE meta SET value = value + ? WHERE key = 'logged'", (len(entries),))
