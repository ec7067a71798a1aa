"""Vectors of another model, filled in beside those that are searched until they replace them.

The new ones are filled in row by row, from the texts, while the old ones serve; what is written meanwhile has a row of
its own, and is filled in before the end. The switch is one transaction. All of it is in the database: a run that was
interrupted resumes where it was. Inside transactions of :meth:`index.storage.database.Database.writing` and
``reading``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from encoder_tools.protocols import FloatMatrix
from index.storage.schema import About, vector_lines

_TABLE = "CREATE TABLE next_vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL)"
_KEYS = ("dim", "fingerprint", "space", "storage")
_MISSING = """
SELECT row FROM documents WHERE row > ? AND NOT EXISTS (SELECT 1 FROM next_vectors n WHERE n.row = documents.row)
ORDER BY row LIMIT ?
"""


def coming(connection: sqlite3.Connection) -> About | None:
    """The model whose vectors are being filled in, if there is one."""
    meta = dict(connection.execute("SELECT key, value FROM meta WHERE key LIKE 'next!_%' ESCAPE '!'"))
    return About(*(meta[key] for key in map("next_{}".format, _KEYS) if key in meta)) if meta else None


def begin(connection: sqlite3.Connection, about: About) -> None:
    """Make room for the vectors of a model; those of another one that were begun are thrown away."""
    abandon(connection)
    connection.execute(_TABLE)
    values = [(f"next_{key}", value) for key, value in about._asdict().items()]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", values)


def abandon(connection: sqlite3.Connection) -> None:
    """Throw away what was begun, if anything was."""
    connection.execute("DROP TABLE IF EXISTS next_vectors")
    connection.execute("DELETE FROM meta WHERE key LIKE 'next!_%' ESCAPE '!'")


def done(connection: sqlite3.Connection) -> int:
    """How many documents have their new vector."""
    return int(connection.execute("SELECT count(*) FROM next_vectors").fetchone()[0])


def missing(connection: sqlite3.Connection, after: int, limit: int) -> list[int]:
    """The next rows without one, ascending."""
    return [row for (row,) in connection.execute(_MISSING, (after, limit))]


def fill(connection: sqlite3.Connection, rows: Sequence[int], vectors: FloatMatrix, about: About) -> None:
    """Store new vectors of a model, but for documents that are gone by now.

    :param vectors: unit vectors (n, dim).
    """
    connection.executemany(
        "INSERT OR REPLACE INTO next_vectors SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM documents WHERE row = ?1)",
        vector_lines(rows, vectors, about),
    )


def switch(connection: sqlite3.Connection, about: About) -> None:
    """Put the new vectors in the place of the old ones; all documents must have theirs.

    The log begins anew: nobody can follow it from one model's vectors to another's.
    """
    connection.execute("DROP TABLE vectors")
    connection.execute("ALTER TABLE next_vectors RENAME TO vectors")
    abandon(connection)  # what is left of it: its name
    meta = {**about._asdict(), "logged": 0}
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'sequence'")
    connection.execute("DELETE FROM log")
    connection.execute("DELETE FROM writes")
    connection.execute("INSERT INTO writes SELECT value, randomblob(16) FROM meta WHERE key = 'sequence'")
