"""Vectors of another model in PostgreSQL, in a second column beside those that are searched."""

from __future__ import annotations

from collections.abc import Sequence

from encoder_tools.protocols import FloatMatrix
from index.engines.postgres.pg_connection import Connection, PgDatabase
from index.engines.postgres.pg_reader import PgReader
from index.engines.postgres.pg_schema import set_meta, type_of
from index.engines.postgres.pg_writes import vector_text
from index.storage.schema import About, vector_checksum

_FILL = "UPDATE {schema}.documents SET next_vector = %s, next_checksum = %s WHERE row = %s"
_SWITCH = """
ALTER TABLE {schema}.documents DROP COLUMN vector, DROP COLUMN vector_checksum;
ALTER TABLE {schema}.documents RENAME COLUMN next_vector TO vector;
ALTER TABLE {schema}.documents RENAME COLUMN next_checksum TO vector_checksum;
ALTER TABLE {schema}.documents ALTER COLUMN vector SET NOT NULL, ALTER COLUMN vector_checksum SET NOT NULL;
"""


class PgShadow:
    """See :class:`index.collection.engine.ShadowVectors`."""

    def __init__(self, database: PgDatabase, connection: Connection) -> None:
        self._database, self._connection = database, connection
        self._reader = PgReader(database, connection)

    def about(self) -> About:
        """Of the vectors that are searched."""
        return self._reader.about

    def coming(self) -> About | None:
        """Of those that are filled in."""
        return self._reader.coming

    def begin(self, about: About) -> None:
        """Make room for the vectors of a model; those of another one that were begun are discarded."""
        self._forget()
        for column in ("next_vector", "next_checksum"):
            self._do(f"ALTER TABLE {{schema}}.documents DROP COLUMN IF EXISTS {column}")
        statement = "ALTER TABLE {schema}.documents ADD COLUMN next_vector {type}, ADD COLUMN next_checksum bigint"
        self._connection.execute(self._database.named(statement, type=type_of(about)))
        set_meta(self._database, self._connection, {f"next_{key}": value for key, value in about._asdict().items()})

    def count(self) -> int:
        """How many documents there are."""
        return self._reader.count()

    def done(self) -> int:
        """How many have their new vector."""
        query = "SELECT count(*) FROM {schema}.documents WHERE next_vector IS NOT NULL"
        return int(self._reader.all(query)[0][0])

    def missing(self, after: int, limit: int) -> tuple[list[int], list[str]]:
        """The next rows without one, and their texts."""
        query = "SELECT row, text FROM {schema}.documents WHERE row > %s AND next_vector IS NULL ORDER BY row LIMIT %s"
        lines = self._reader.all(query, (after, limit))
        return [row for row, _ in lines], [text for _, text in lines]

    def fill(self, rows: Sequence[int], vectors: FloatMatrix, about: About) -> None:
        """Store new vectors."""
        stored = [vector.astype(about.dtype) for vector in vectors]
        lines = [
            (vector_text(vector), vector_checksum(vector.tobytes()), row)
            for vector, row in zip(stored, rows, strict=True)
        ]
        with self._connection.cursor() as cursor:
            cursor.executemany(self._database.named(_FILL), lines)

    def switch(self, about: About) -> None:
        """Put them in the place of the old ones, with which the graph goes."""
        for statement in _SWITCH.strip().split("\n"):
            self._do(statement)
        self._forget()
        sequence = int(self._reader.meta["sequence"]) + 1
        set_meta(self._database, self._connection, {**about._asdict(), "sequence": sequence})

    def _forget(self) -> None:
        self._do("DELETE FROM {schema}.meta WHERE key LIKE 'next!_%%' ESCAPE '!' OR key IN ('recall', 'ef_search')")

    def _do(self, statement: str) -> None:
        self._connection.execute(self._database.named(statement.replace("%%", "%")))
