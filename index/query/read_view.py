"""The last committed state of a collection, in its database and in memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import EncoderToolsError
from encoder_tools.protocols import FloatMatrix
from index.ann.builder import Builder
from index.lexical.word_index import WordIndex
from index.memory.snapshot import Neighbors, Snapshot
from index.memory.snapshots import Snapshots
from index.query.filtered_fields import read_fields
from index.query.filters import Filter
from index.query.metadata_columns import Columns
from index.query.planner import Planner
from index.query.view import ByWords
from index.results import Plan
from index.storage.database import Database
from index.storage.reader import Reader
from index.storage.schema import About
from index.storage.vector_block import Block

_READ_AT_ONCE = 5000  # vectors of one transaction
_PREPARED_FROM = 5000  # documents; the columns of fewer are made in milliseconds


@dataclass(frozen=True)
class ReadView:
    """One committed state.

    :ivar reader: of the database, ``snapshot`` of the vectors.
    :ivar plans: of the searches that were made in it.
    """

    reader: Reader
    snapshot: Snapshot
    columns: Columns
    builder: Builder
    planner: Planner
    about: About
    words: WordIndex
    plans: list[Plan] = field(default_factory=list)

    @property
    def sequence(self) -> int:
        """Number of the last write."""
        return self.snapshot.sequence

    @property
    def rows(self) -> NDArray[np.int64]:
        """Of all documents, ascending."""
        return self.snapshot.rows[self.snapshot.alive]

    @property
    def count(self) -> int:
        """How many documents there are."""
        return len(self.snapshot)

    def remember(self, queries: FloatMatrix) -> None:
        """For the tuning of the index."""
        self.builder.remember(queries)

    def vectors_of(self, rows: Sequence[int]) -> FloatMatrix:
        """Vectors (n, dim) of rows in any order."""
        return self.snapshot.vectors_at(np.searchsorted(self.snapshot.rows, rows))

    def nearest(self, queries: FloatMatrix, k: int, mask: NDArray[np.bool_] | None) -> list[Neighbors]:
        """Rows and cosines of the ``k`` nearest to each query (n, dim), best first.

        :param mask: bool (n,) over the snapshot's rows: only those are candidates.
        """
        if mask is not None:
            found, plan = self.planner.nearest(queries, k, self.snapshot, mask)
        elif not self.snapshot.vectors.held and self.builder.exact(k, self.snapshot):
            found, plan = self.exact(queries, k, None), Plan("exact", len(self.snapshot))
        else:
            found, plan = self.builder.nearest(queries, k, self.snapshot)
        self.plans.append(plan)
        return found

    def exact(self, queries: FloatMatrix, k: int, mask: NDArray[np.bool_] | None) -> list[Neighbors]:
        """As :meth:`nearest`, whatever a graph finds."""
        if self.snapshot.vectors.held:
            return self.snapshot.nearest(queries, k, mask)
        return self.planner.scan(queries, k, self.snapshot, self.snapshot.alive if mask is None else mask)

    def matching(self, condition: Filter) -> list[int]:
        """Rows that match a filter, ascending."""
        rows: list[int] = self.snapshot.rows[self.mask(condition)].tolist()
        return rows

    def mask(self, condition: Filter) -> NDArray[np.bool_]:
        """Which rows of the snapshot match a filter and are alive, bool (n,)."""
        return self.columns.mask(condition, self.snapshot, self.reader)

    def hybrid(
        self, queries: FloatMatrix, texts: Sequence[str], k: int, words: int, mask: NDArray[np.bool_] | None
    ) -> list[tuple[Neighbors, ByWords]]:
        """For each query what :meth:`nearest` and, for ``words``, :meth:`lexical` give."""
        dense = self.nearest(queries, k, mask)
        return [(ranking, self.lexical(text, words, mask)) for ranking, text in zip(dense, texts, strict=True)]

    def lexical(self, text: str, k: int, mask: NDArray[np.bool_] | None) -> ByWords:
        """Rows and BM25 scores of the ``k`` that match a text's words best.

        :param mask: bool (n,) over the snapshot's rows: only those are candidates.
        """
        found = self.words.find(self.reader, self.snapshot, text, k, mask)
        if found is not None:
            return found
        rows, scores = self.reader.lexical(text, None if mask is None else self.snapshot.rows[mask])
        # terms of a row that is gone would stay if they were made by another version of Unicode
        _, stored = self.snapshot.located(rows)
        return rows[stored][:k], scores[stored][:k]


@dataclass(frozen=True)
class _Generation:
    """What is in memory for the vectors of one model."""

    about: About
    builder: Builder
    planner: Planner
    snapshots: Snapshots
    columns: Columns


class CollectionState:
    """The state in memory, which keeps up with the database. Safe for threads.

    :param name: of the collection, in errors.
    :param make_builder: makes the builder of the graph over the vectors of a model.
    """

    def __init__(self, database: Database, about: About, name: str, make_builder: Callable[[About], Builder]) -> None:
        self._database, self._name, self._make_builder = database, name, make_builder
        self._advancing = threading.Lock()
        self._prepared: _Generation | None = None
        self.words = WordIndex(database.path.parent, self.reading)
        self.now = self._generation(about)

    @property
    def about(self) -> About:
        """Of the state that was seen last."""
        return self.now.about

    def kept(self) -> int | None:
        """Number of the write that the files beside the database were derived from, if there are any."""
        return self.now.builder.kept()

    def close(self) -> None:
        """Stop what is built, and keep what was made."""
        self.now.builder.close()
        self.keep_columns()
        self.words.close()

    def after_write(self) -> None:
        """Have what was written taken into the index, if searches go through one, and into the columns of filters."""
        if self.now.builder.graph is not None or self.now.columns.kept:
            with self.read_view() as view:
                view.builder.follow(view.snapshot)
                view.columns.follow(view.snapshot, view.reader)

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A committed state of the database alone."""
        with self._database.reading() as connection:
            yield self._reader(connection)

    @contextmanager
    def read_view(self) -> Iterator[ReadView]:
        """The last committed state."""
        while True:
            with self.reading() as reader:
                now, sequence = self.now, reader.sequence()
                snapshot = now.snapshots.current
                if snapshot.sequence < sequence:
                    now, snapshot = self._advance(reader)
                # A snapshot is advanced only forwards. If another thread advanced it beyond this transaction's state,
                # the two would disagree: begin a new transaction, which sees at least what the snapshot has.
                if snapshot.sequence == sequence:
                    reader.knows(now.about)
                    self._prepare_once(now, snapshot)
                    yield self._view(now, snapshot, reader)
                    return

    def _prepare_once(self, now: _Generation, snapshot: Snapshot) -> None:
        """Make the columns ready that filters asked for before this collection was opened."""
        if self._prepared is now or len(snapshot) < _PREPARED_FROM:
            return
        self._prepared = now
        fields = read_fields(self._database.path.parent)
        if not fields:
            return

        def prepare() -> None:
            with suppress(EncoderToolsError, sqlite3.Error), self.read_view() as view:  # a search says what is wrong
                view.columns.prepare(fields, view.snapshot, view.reader)
            self.keep_columns()

        threading.Thread(target=prepare, daemon=True, name="index-columns").start()

    def keep_columns(self) -> None:
        """Keep the columns of filters beside the graph that is on disk, if there is one and they are not."""
        with suppress(EncoderToolsError, sqlite3.Error):
            rows = self.now.builder.saved_rows
            if rows is not None and self.now.columns.kept:
                with self.read_view() as view:
                    view.columns.save(rows, view.snapshot)

    def view_in(self, connection: sqlite3.Connection) -> ReadView:
        """The state in a transaction that writes, before it has written: there is no later one."""
        reader = self._reader(connection)
        now, snapshot = self._advance(reader)
        return self._view(now, snapshot, reader)

    def _view(self, now: _Generation, snapshot: Snapshot, reader: Reader) -> ReadView:
        return ReadView(reader, snapshot.within(reader), now.columns, now.builder, now.planner, now.about, self.words)

    def _advance(self, reader: Reader) -> tuple[_Generation, Snapshot]:
        with self._advancing:
            now = self.now
            if reader.sequence() > now.snapshots.current.sequence and reader.about != now.about:
                now.builder.close()  # the vectors of another model have taken the place of these
                now = self.now = self._generation(reader.about)
            return now, now.snapshots.advance(reader)

    def _generation(self, about: About) -> _Generation:
        builder = self._make_builder(about)
        builder.when_saved = self.keep_columns
        return _Generation(
            about,
            builder,
            Planner(builder, about.dim),
            Snapshots(about, self._name, builder.base, builder.kept, self._vectors),
            Columns(self._database.path.parent),
        )

    def _vectors(self, rows: Sequence[int]) -> Iterator[Block]:
        """Of some rows, for what works beside the searches; those that are gone are left out."""
        for start in range(0, len(rows), _READ_AT_ONCE):
            with self.reading() as reader:
                yield from reader.vectors(rows[start : start + _READ_AT_ONCE], some=True)

    def _reader(self, connection: sqlite3.Connection) -> Reader:
        return Reader(connection, self._database.path)
