"""Writes of the embedded engine, each a transaction of SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from encoder_tools.protocols import FloatMatrix
from index.collection.metadata_update import metadata_batches
from index.query.filters import Filter
from index.query.read_view import CollectionState
from index.results import DocumentId
from index.storage import shadow_vectors as generations
from index.storage import writer
from index.storage.database import Database
from index.storage.reader import Reader
from index.storage.schema import About, about_in
from index.storage.writer import Batch


class SqliteWrites:
    """See :class:`index.collection.engine.Writes`.

    :param check_open: raises where the collection is closed.
    """

    def __init__(self, database: Database, state: CollectionState, check_open: Callable[[], None]) -> None:
        self._database, self._state, self._check_open = database, state, check_open

    def upsert(self, batch: Batch, vectors: FloatMatrix, about: About) -> bool:
        """Store documents, unless the vectors have become another model's."""
        with self._database.writing() as connection:
            self._check_open()
            same = about_in(connection, self._database.path) == about
            if same:
                writer.upsert(connection, batch, vectors, about)
                writer.trim(connection, self._state.kept)
        if same:
            self._state.after_write()
        return same

    def set_metadata(self, ids: Sequence[DocumentId], metadata: Sequence[Mapping[str, Any] | None]) -> None:
        """Give documents other metadata."""
        with self._database.writing() as connection:
            reader = Reader(connection, self._database.path)
            for batch, vectors in metadata_batches(reader, ids, metadata):
                writer.upsert(connection, batch, vectors, reader.about)
            writer.trim(connection, self._state.kept)
        self._state.after_write()

    def delete(self, ids: Sequence[DocumentId]) -> int:
        """Delete documents; how many rows that were."""
        return self._delete(lambda connection: writer.delete(connection, ids))

    def delete_where(self, condition: Filter) -> int:
        """Delete what matches a filter; how many rows that were."""

        def delete(connection: sqlite3.Connection) -> int:
            rows = self._state.view_in(connection).matching(condition)
            writer.delete_rows(connection, rows)
            return len(rows)

        return self._delete(delete)

    def _delete(self, delete: Callable[[sqlite3.Connection], int]) -> int:
        with self._database.writing() as connection:
            count = delete(connection)
            writer.trim(connection, self._state.kept)
            return count


class SqliteShadow:
    """See :class:`index.collection.engine.ShadowVectors`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._reader = Reader(connection, path)

    def about(self) -> About:
        """Of the vectors that are searched."""
        return about_in(self._connection, self._path)

    def coming(self) -> About | None:
        """Of those that are filled in."""
        return generations.coming(self._connection)

    def begin(self, about: About) -> None:
        """Make room for the vectors of a model."""
        generations.begin(self._connection, about)

    def count(self) -> int:
        """How many documents there are."""
        return self._reader.count()

    def done(self) -> int:
        """How many have their new vector."""
        return generations.done(self._connection)

    def missing(self, after: int, limit: int) -> tuple[list[int], list[str]]:
        """The next rows without one, and their texts."""
        rows = generations.missing(self._connection, after, limit)
        documents = self._reader.by_rows(rows)
        return rows, [documents[row].text for row in rows]

    def fill(self, rows: Sequence[int], vectors: FloatMatrix, about: About) -> None:
        """Store new vectors."""
        generations.fill(self._connection, rows, vectors, about)

    def switch(self, about: About) -> None:
        """Put them in the place of the old ones."""
        generations.switch(self._connection, about)
