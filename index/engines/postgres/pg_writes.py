"""Writes to a collection in PostgreSQL, each one transaction, by one writer at a time.

Each of them may be done twice without harm, so that it can be done again where the answer to it was lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from psycopg import sql

from encoder_tools.errors import SaveError, UnstorableError
from encoder_tools.protocols import FloatMatrix
from index.collection.metadata_update import metadata_batches
from index.engines.postgres.pg_conditions import compiled
from index.engines.postgres.pg_connection import Connection, PgDatabase
from index.engines.postgres.pg_reader import PgReader
from index.engines.postgres.pg_schema import set_meta
from index.engines.postgres.pg_words import rows_with
from index.engines.stored_ids import id_of, stored_id
from index.query.filters import Filter
from index.results import DocumentId
from index.storage.schema import About, document_checksum, vector_checksum
from index.storage.writer import Batch, chunk_of_another, id_taken

_COLUMNS = ("id", "source", "text", "metadata", "fields", "checksum", "length", "vector", "vector_checksum")
_GONE = "DELETE FROM {schema}.documents WHERE {chosen} RETURNING row, id, source, length"


class PgWrites:
    """See :class:`index.collection.engine.Writes`."""

    def __init__(self, database: PgDatabase) -> None:
        self._database = database

    def upsert(self, batch: Batch, vectors: FloatMatrix, about: About) -> bool:
        """Store documents, unless the vectors there are another model's."""
        check_storable(batch)

        def write() -> bool:
            with self._database.writing() as connection:
                run = _Write(self._database, connection)
                if run.reader.about != about:
                    return False
                run.upsert(batch, vectors)
                return True

        return self._database.retried(write)

    def set_metadata(self, ids: Sequence[DocumentId], metadata: Sequence[Mapping[str, Any] | None]) -> None:
        """Give documents other metadata."""

        def write() -> None:
            with self._database.writing() as connection:
                run = _Write(self._database, connection)
                for batch, vectors in list(metadata_batches(run.reader, ids, metadata)):
                    run.upsert(batch, vectors)

        self._database.retried(write)

    def delete(self, ids: Sequence[DocumentId]) -> int:
        """Delete documents; how many rows that were."""
        stored = [stored_id(identifier) for identifier in ids]
        return self._deleted(lambda run: run.take_out_documents(stored))

    def delete_where(self, condition: Filter) -> int:
        """Delete what matches a filter; how many rows that were."""

        def delete(run: _Write) -> int:
            made = compiled(condition, self._database.address, partial(rows_with, run.reader))
            return run.take_out(made.statement, made.values)

        return self._deleted(delete)

    def _deleted(self, delete: Callable[[_Write], int]) -> int:
        def write() -> int:
            with self._database.writing() as connection:
                run = _Write(self._database, connection)
                count = delete(run)
                if count:
                    run.note(0)
                return count

        return self._database.retried(write)


class _Write:
    """One transaction that writes."""

    def __init__(self, database: PgDatabase, connection: Connection) -> None:
        self._database, self._connection = database, connection
        self.reader = PgReader(database, connection)
        self._gone, self._length = 0, 0

    def upsert(self, batch: Batch, vectors: FloatMatrix) -> None:
        """Store documents or chunks in new rows, and take out all rows of the documents with the same ids.

        :raises InputError: if another document has the id of a chunk.
        :raises SaveError: if another process indexes words by other rules.
        """
        words = self.reader.words
        if words.rules != self.reader.meta["words"]:
            raise SaveError(
                f"The words of {self._database.address} are of rules {self.reader.meta['words']!r}, expected "
                f"{words.rules!r}. Nothing was written; use the version that made the collection, or make it anew."
            )
        sources: Sequence[DocumentId | None] = batch.sources or [None] * len(batch.ids)
        replaced = batch.ids if batch.sources is None else batch.sources
        self.take_out_documents([stored_id(one) for one in dict.fromkeys(replaced)])
        if batch.sources is not None:
            self._check_free(batch.ids)
        about = self.reader.about
        terms = [Counter(words.stored(text)) for text in batch.texts]
        lines = []
        for number, (identifier, source, text, metadata) in enumerate(
            zip(batch.ids, sources, batch.texts, batch.metadata, strict=True)
        ):
            vector = vectors[number].astype(about.dtype)
            checksum = document_checksum(identifier, text, metadata, source)
            stored = None if source is None else stored_id(source)
            length = terms[number].total()
            self._length += length
            lines.append(
                (
                    *(stored_id(identifier), stored, text, metadata, metadata, checksum),
                    *(length, vector_text(vector), vector_checksum(vector.tobytes())),
                )
            )
        self._copy("documents", _COLUMNS, lines)
        rows = dict(
            self.reader.all(
                "SELECT id, row FROM {schema}.documents WHERE id = ANY(%s)", ([stored_id(one) for one in batch.ids],)
            )
        )
        postings = (
            (term, rows[stored_id(identifier)], count, own.total())
            for identifier, own in zip(batch.ids, terms, strict=True)
            for term, count in own.items()
        )
        self._copy("postings", ("term", "row", "count", "length"), postings)
        self.note(len(lines))

    def take_out_documents(self, stored: Sequence[str]) -> int:
        """Take out documents with their chunks; how many rows.

        :raises InputError: if one of them is a chunk of a document that would stay.
        """
        if not stored:
            return 0
        return self.take_out(sql.SQL("id = ANY(%s) OR source = ANY(%s)"), (list(stored),) * 2, named=set(stored))

    def take_out(self, chosen: sql.Composable, values: Sequence[Any], named: set[str] | None = None) -> int:
        """Take out rows; how many."""
        lines = self.reader.all(_GONE, values, chosen=chosen)
        for _, identifier, source, _ in lines:
            if named is not None and source is not None and source not in named:
                raise chunk_of_another(id_of(identifier), id_of(source))
        rows = [line[0] for line in lines]
        if rows:
            self.reader.connection.execute(
                self._database.named("DELETE FROM {schema}.postings WHERE row = ANY(%s)"), (rows,)
            )
        self._gone += len(rows)
        self._length -= sum(line[3] for line in lines)
        return len(rows)

    def note(self, added: int) -> None:
        """Count what was written, as one write."""
        meta = self.reader.meta  # which nobody else changes meanwhile
        change = {
            "sequence": int(meta["sequence"]) + 1,
            "count": int(meta["count"]) + added - self._gone,
            "length": int(meta.get("length", 0)) + self._length,
        }
        set_meta(self._database, self._connection, change)
        meta |= {key: str(value) for key, value in change.items()}
        self._gone = self._length = 0

    def _check_free(self, ids: Sequence[DocumentId]) -> None:
        query = "SELECT id FROM {schema}.documents WHERE id = ANY(%s) LIMIT 1"
        taken = self.reader.all(query, ([stored_id(one) for one in ids],))
        if taken:
            raise id_taken(id_of(taken[0][0]))

    def _copy(self, table: str, columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = self._database.named(
            "COPY {schema}.{table} ({columns}) FROM STDIN", table=sql.Identifier(table), columns=names
        )
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for line in lines:
                copy.write_row(line)


def check_storable(batch: Batch) -> None:
    """Check what PostgreSQL cannot store and SQLite can.

    :raises UnstorableError: for the character U+0000.
    """
    for name, values in (("Text", batch.texts), ("Id", batch.ids)):
        for position, value in enumerate(values):
            if isinstance(value, str) and "\0" in value:
                raise UnstorableError(
                    f"{name} {position} has the character U+0000, which PostgreSQL cannot store. Remove it."
                )


def vector_text(vector: Any) -> str:
    """A vector as pgvector reads it; each number so that it is the same again."""
    return "[" + ",".join(map(repr, np.asarray(vector, dtype=np.float32).tolist())) + "]"
