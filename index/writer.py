"""Writes to a collection's tables, inside a transaction of :meth:`index.database.Database.writing`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from encoder_tools.protocols import FloatMatrix
from index import lexical
from index.results import DocumentId
from index.schema import document_checksum, vector_checksum

_ADDED, _GONE = 1, 0


def upsert(
    connection: sqlite3.Connection,
    ids: Sequence[DocumentId],
    texts: Sequence[str],
    metadata: Sequence[str],
    vectors: FloatMatrix,
) -> None:
    """Store documents in new rows, and take out the rows of those with the same ids.

    :param ids: distinct.
    :param metadata: JSON objects.
    :param vectors: unit vectors (n, dim).
    """
    gone = _gone(connection, "id", ids)
    first = _next_row(connection)
    rows = range(first, first + len(ids))
    documents = zip(rows, ids, texts, metadata, map(document_checksum, ids, texts, metadata), strict=True)
    connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", documents)
    lexical.add(connection, rows, list(texts))
    blobs = [vector.tobytes() for vector in vectors.astype("<f4")]
    connection.executemany(
        "INSERT INTO vectors VALUES (?, ?, ?)", zip(rows, blobs, map(vector_checksum, blobs), strict=True)
    )
    _note(connection, gone, rows)


def delete(connection: sqlite3.Connection, ids: Sequence[DocumentId]) -> int:
    """Take out the documents with these ids; return how many there were."""
    gone = _gone(connection, "id", ids)
    if gone:
        _note(connection, gone, ())
    return len(gone)


def delete_rows(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Take out the documents in these rows."""
    gone = _gone(connection, "row", rows)
    if gone:
        _note(connection, gone, ())


def _gone(connection: sqlite3.Connection, column: str, values: Iterable[DocumentId]) -> list[int]:
    """Take out documents, their vectors and their words; return their rows."""
    gone: list[int] = []
    for value in values:
        # fetchall, not fetchone: the statement must be finished before the next one
        query = f"DELETE FROM documents WHERE {column} = ? RETURNING row, text"  # noqa: S608 - a name of ours
        for row, text in connection.execute(query, (value,)).fetchall():
            lexical.take_out(connection, row, text)
            gone.append(row)
    connection.executemany("DELETE FROM vectors WHERE row = ?", ((row,) for row in gone))
    return gone


def _next_row(connection: sqlite3.Connection) -> int:
    """Above every row that ever was."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'documents'").fetchone()
    return 1 if found is None else int(found[0]) + 1


def _note(connection: sqlite3.Connection, gone: Sequence[int], added: Sequence[int]) -> None:
    sequence = int(connection.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()[0]) + 1
    entries = [*((sequence, row, _GONE) for row in gone), *((sequence, row, _ADDED) for row in added)]
    connection.executemany("INSERT INTO log VALUES (?, ?, ?)", entries)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'sequence'", (sequence,))
    connection.execute("UPDATE meta SET value = value + ? WHERE key = 'count'", (len(added) - len(gone),))
