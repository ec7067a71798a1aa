"""The engine over Milvus: one open collection, and how one is made, opened and removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.protocols import TextEncoder
from index.collection.encoding import about_of
from index.engines.milvus import mv_state
from index.engines.milvus.mv_address import MvAddress
from index.engines.milvus.mv_conditions import EVERYTHING
from index.engines.milvus.mv_connection import MvDatabase
from index.engines.milvus.mv_reader import MvReader
from index.engines.milvus.mv_rows import counted
from index.engines.milvus.mv_shadow import MvShadow
from index.engines.milvus.mv_state import State
from index.engines.milvus.mv_view import MvView
from index.engines.milvus.mv_writes import LINE, MvWriter, MvWrites
from index.engines.remote_engine import RemoteEngine, closed_on_error, tuned_effort
from index.results import Stats
from index.storage.schema import About

_AT_ONCE = 500
_DEAD_LEAST = 1000
_DEAD_SHARE, _DRIFT = 0.1, 1.5  # of lines that are gone, and of the average length, from which on lines are made anew


class MilvusType:
    """See :class:`index.collection.engine.EngineType`."""

    def create(self, address: str, encoder: TextEncoder, options: Mapping[str, Any]) -> None:
        """Make an empty collection.

        :raises InputError: for a storage that Milvus's vectors do not have.
        """
        storage = options.get("storage", "float32")
        if storage not in ("float32", "float16"):
            raise InputError(f"storage is {storage!r}, expected float32 or float16: an index in Milvus has no codes.")
        with _database(address, options) as database:
            mv_state.create(database, about_of(encoder, storage), options.get("stemming"))

    def open(self, address: str, encoder: TextEncoder | None, options: Mapping[str, Any]) -> MilvusEngine:
        """Open one."""
        with closed_on_error(_connected(address, options)) as database:
            return MilvusEngine(database, encoder, options)

    def drop(self, address: str) -> None:
        """Remove one."""
        with _database(address, {}) as database:
            mv_state.drop(database)


def _connected(address: str, options: Mapping[str, Any]) -> MvDatabase:
    return MvDatabase(MvAddress.read(address), float(options.get("busy_timeout", 5.0)))


@contextmanager
def _database(address: str, options: Mapping[str, Any]) -> Iterator[MvDatabase]:
    database = _connected(address, options)
    try:
        yield database
    finally:
        database.close()


class MilvusEngine(RemoteEngine):
    """One open collection; see :class:`index.collection.engine.Engine`."""

    def __init__(self, database: MvDatabase, encoder: TextEncoder | None, options: Mapping[str, Any]) -> None:
        self.database = database
        self._writer = MvWriter(database)
        self.writes = MvWrites(self._writer)
        super().__init__(database, encoder, options, self._read_about)

    def close(self) -> None:
        """Close the connection."""
        if not self._closed:
            self._writer.lock.close()
            super().close()

    def follow(self) -> None:
        """Learn which model the vectors belong to by now."""
        self._about = self.database.retried(self._read_about)

    @contextmanager
    def reading(self) -> Iterator[MvReader]:
        """One committed state of the documents."""
        self.check_open()
        yield MvReader(self.database)

    @contextmanager
    def read_view(self) -> Iterator[MvView]:
        """One committed state, to be searched."""
        with self.reading() as reader:
            self._about = reader.about
            yield MvView(reader)

    @contextmanager
    def shadow_reading(self) -> Iterator[MvShadow]:
        """What is filled in, to be read."""
        with self.reading() as reader:
            yield MvShadow(reader)

    @contextmanager
    def shadow_writing(self) -> Iterator[MvShadow]:
        """What is filled in, to be written."""
        self.check_open()
        with self._writer.writing() as write:
            yield MvShadow(write.reader, write, graph=self._graph.due(write.state.documents))

    def ping(self) -> None:
        """Raise an :class:`UnavailableError` if the server cannot be reached now."""
        self.check_open()
        self._read_about()

    def stats(self) -> Stats:
        """What there is, and how it is searched."""
        with self.reading() as reader:
            state, shadow = reader.state, MvShadow(reader)
            coming = shadow.coming()
            return Stats(
                state.documents,
                state.about.dim,
                "hnsw" if state.graph else "flat",
                self._graph.why(state.documents, indexed=state.graph, name="Milvus"),
                state.recall,
                state.effort,
                None,
                None if coming is None else (coming.fingerprint, shadow.done()),
                None,
                state.about.storage,
                tuple(self._advice(state)),
            )

    def verify(self) -> int:
        """Read everything, and check it against its checksums and against each other."""
        return self.run(self._verified)

    def compact(self) -> None:
        """Make the lines anew, with a graph if there should be one, if that changes anything; measure the graph."""
        self.check_open()
        self.run(self._writer.lock.sweep)
        state = self.run(partial(mv_state.read_state, self.database))
        rebuilt = self._graph.due(state.documents) != state.graph or bool(list(self._stale(state)))
        if rebuilt and (state.coming is None or state.coming.about == state.about):
            self._rebuild()
        self.run(self._tune)

    def backup(self, folder: Path) -> None:
        """Not of this engine.

        :raises InputError: always.
        """
        raise InputError(
            f"{self.folder} is backed up by Milvus's own means (milvus-backup, of the collections "
            f"{self.database.name()}*), or by encoder-tools index copy."
        )

    def _verified(self) -> int:
        with self.reading() as reader:
            rows = length = 0
            for lines in reader.pages(EVERYTHING, LINE, _AT_ONCE):
                for line in lines:
                    length += self._checked(reader, line)
                rows += len(lines)
            if (rows, length) != (reader.count(), reader.state.length):
                raise reader.other(
                    f"{self.folder} holds {rows} documents with {length} words, but says {reader.count()} and "
                    f"{reader.state.length}. Restore a backup."
                )
            return rows

    def _checked(self, reader: MvReader, line: dict[str, Any]) -> int:
        """How many words a line has, all of whose parts are right."""
        reader.document_of(line)
        reader.vector_of(line)
        words = reader.words.stored(line["text"])
        if not {term.token for term in counted(words)} <= set(line["tokens"]):
            raise FileCorruptError(f"The words in row {line['row']} are not those of its text. Restore a backup.")
        return len(words)

    def _read_about(self) -> About:
        return mv_state.read_state(self.database).about

    def _advice(self, state: State) -> Iterator[str]:
        if self._graph.due(state.documents) and not state.graph:
            yield "all documents are compared: there is no graph; run compact"
        yield from self._stale(state)

    def _stale(self, state: State) -> Iterator[str]:
        """Why lines should be made anew."""
        if state.dead > max(_DEAD_LEAST, _DEAD_SHARE * (state.documents + state.dead)):
            yield f"{state.dead} of {state.dead + state.documents} lines are of documents that are gone; run compact"
        average = state.statistics.average
        if average and not 1 / _DRIFT < average / state.average < _DRIFT:
            yield f"texts have {average:.0f} words, weights are of texts with {state.average:.0f}; run compact"

    def _rebuild(self) -> None:
        """Fill a new generation with the lines there are, and switch to it."""
        begun = self.run(self._begun)
        after: int | None = 0
        while after is not None:
            after = self.run(partial(self._filled, begun, after))

    def _begun(self) -> int | None:
        with self.shadow_writing() as shadow:
            shadow.begin(shadow.about())
            return shadow.generation

    def _filled(self, generation: int | None, after: int) -> int | None:
        """Fill in some more; the last row that was, or None at the end."""
        with self.shadow_reading() as reading:
            if reading.generation != generation:
                return None  # another client has made one meanwhile, or re-embeds
            rows, _ = reading.missing(after, _AT_ONCE)
        with self._writer.writing() as write:
            shadow = MvShadow(write.reader, write)
            if shadow.generation != generation:
                return None
            if len(rows) < _AT_ONCE:  # the last ones, while others wait to write
                rows, _ = shadow.missing(after, _AT_ONCE)
            vectors = write.reader.vectors_of_those(rows)
            shadow.fill(list(vectors), np.array(list(vectors.values())), shadow.about())
            if len(rows) < _AT_ONCE and not shadow.missing(after, 1)[0]:
                shadow.switch(shadow.about())
                return None
        return rows[-1] if rows else after

    def _tune(self) -> None:
        """Find the least effort that has the recall, for queries near stored vectors."""
        with self.read_view() as view:
            reader = view.reader
            if not reader.state.graph:
                return
            tuned = tuned_effort(
                view,
                lambda queries, k, effort: MvView(reader, effort=effort).nearest(queries, k, None),
                self._graph.recall,
            )
        if tuned is not None:
            self.run(partial(self._note_effort, reader.state.generation, *tuned))

    def _note_effort(self, generation: int, effort: int, recall: float) -> None:
        with self._writer.writing() as write:
            if write.state.generation == generation:
                write.state = write.state._replace(effort=effort, recall=recall)
