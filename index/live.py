"""The last committed state of a collection, in its database and in memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.builder import Builder
from index.columns import Columns
from index.database import Database
from index.filters import Filter
from index.reader import Reader
from index.snapshot import Found, Snapshot, Snapshots


@dataclass(frozen=True)
class Rest:
    """One committed state.

    :ivar reader: of the database, ``snapshot`` of the vectors.
    """

    reader: Reader
    snapshot: Snapshot
    columns: Columns
    builder: Builder

    def nearest(self, queries: FloatMatrix, k: int, mask: NDArray[np.bool_] | None) -> list[Found]:
        """Rows and cosines of the ``k`` nearest to each query (n, dim), best first.

        :param mask: bool (n,) over the snapshot's rows: none but those are found, exactly.
        """
        if mask is not None:
            return self.snapshot.nearest(queries, k, mask)
        return self.builder.nearest(queries, k, self.snapshot)

    def matching(self, wanted: Filter) -> list[int]:
        """Rows that match a filter, ascending."""
        found: list[int] = self.snapshot.rows[self.mask(wanted)].tolist()
        return found

    def mask(self, wanted: Filter) -> NDArray[np.bool_]:
        """Which rows of the snapshot match a filter and are alive, bool (n,)."""
        return self.columns.mask(wanted, self.snapshot, self.reader)

    def lexical(
        self, text: str, k: int, mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows and BM25 scores of the ``k`` that match a text's words best.

        :param mask: bool (n,) over the snapshot's rows: none but those are found.
        """
        rows, scores = self.reader.lexical(text, None if mask is None else self.snapshot.rows[mask])
        return rows[:k], scores[:k]


class Live:
    """Keeps up with a database. Safe for threads.

    :param what: named in errors.
    :ivar builder: of the graph.
    """

    def __init__(self, database: Database, dim: int, what: str, builder: Builder) -> None:
        self._database, self._dim, self.builder = database, dim, builder
        self._advancing = threading.Lock()
        self._snapshots, self._columns = Snapshots(dim, what, builder.base), Columns()

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A committed state of the database alone."""
        with self._database.reading() as connection:
            yield self._reader(connection)

    @contextmanager
    def at_rest(self) -> Iterator[Rest]:
        """The last committed state."""
        while True:
            with self.reading() as reader:
                sequence, snapshot = reader.sequence(), self._snapshots.current
                if snapshot.sequence < sequence:
                    with self._advancing:
                        snapshot = self._snapshots.advance(reader)
                if snapshot.sequence == sequence:  # else another thread was faster: begin a new transaction
                    yield Rest(reader, snapshot, self._columns, self.builder)
                    return

    def rest_in(self, connection: sqlite3.Connection) -> Rest:
        """The state in a transaction that writes, before it has written: there is no later one."""
        reader = self._reader(connection)
        with self._advancing:
            snapshot = self._snapshots.advance(reader)
        return Rest(reader, snapshot, self._columns, self.builder)

    def _reader(self, connection: sqlite3.Connection) -> Reader:
        return Reader(connection, self._database.path, self._dim)
