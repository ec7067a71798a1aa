"""The engine over Milvus: one open collection, and how one is made, opened and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index.ann.tuning import turned
from index.collection.encoding import KnownModels, Model, about_of, closed
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
from index.results import Stats
from index.storage.schema import About
from index.validation import check_score

T = TypeVar("T")
GRAPH_FROM = 20_000  # documents, as in the embedded engine
_EFFORTS = (40, 64, 100, 160, 250, 400, 640, 1000)
_SAMPLE, _NEAR, _K = 60, 0.75, 10
_AT_ONCE = 500
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
        """Open one.

        :raises InputError: for another index than "auto", "flat" or "hnsw".
        """
        index, recall = options.get("index", "auto"), check_score(options.get("recall", 0.95), "recall")
        if index not in ("auto", "flat", "hnsw") or not 0 < recall <= 1:
            raise InputError(f"index is {index!r} and recall {recall}, expected auto, flat or hnsw, and a share.")
        database = MvDatabase(MvAddress.read(address), float(options.get("busy_timeout", 5.0)))
        try:
            return MilvusEngine(database, encoder, options)
        except BaseException:
            database.close()
            raise

    def drop(self, address: str) -> None:
        """Remove one."""
        with _database(address, {}) as database:
            mv_state.drop(database)


@contextmanager
def _database(address: str, options: Mapping[str, Any]) -> Iterator[MvDatabase]:
    database = MvDatabase(MvAddress.read(address), float(options.get("busy_timeout", 5.0)))
    try:
        yield database
    finally:
        database.close()


class MilvusEngine:
    """One open collection; see :class:`index.collection.engine.Engine`."""

    def __init__(self, database: MvDatabase, encoder: TextEncoder | None, options: Mapping[str, Any]) -> None:
        self.database = database
        self._index, self._recall = str(options.get("index", "auto")), float(options.get("recall", 0.95))
        self._closed = False
        self._writer = MvWriter(database)
        self.writes = MvWrites(self._writer)
        self._about: About = database.retried(self._read_about)
        allow = bool(options.get("allow_sibling", False))
        self._models = KnownModels(Model.checked(self.folder, self._about, encoder, allow_sibling=allow))

    @property
    def folder(self) -> str:
        """The address, as errors name it."""
        return str(self.database.address)

    @property
    def about(self) -> About:
        """Of the state that was seen last."""
        return self._about

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        return self._models.sibling(self._about)

    @property
    def tokens(self) -> Any:
        """Token vectors have no place in Milvus yet.

        :raises InputError: always.
        """
        raise InputError("rescore='tokens' is of collections in folders; Milvus keeps no vectors of tokens yet.")

    def check_open(self) -> None:
        """Raise an :class:`InputError` if it is closed."""
        if self._closed:
            raise closed(self.folder)

    def close(self) -> None:
        """Close the connection."""
        if not self._closed:
            self._closed = True
            self._writer.lock.close()
            self.database.close()

    def model(self) -> Model:
        """For the vectors that there are now."""
        return self._models.of(self._about)

    def adopt(self, model: Model) -> None:
        """Know one more model."""
        self._models.add(model)

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
            yield MvShadow(write.reader, write, graph=self._due(write.state))

    def ping(self) -> None:
        """Raise an :class:`UnavailableError` if the server cannot be reached now."""
        self.check_open()
        self._read_about()

    def run(self, call: Callable[[], T]) -> T:
        """A read, made again while the server is away."""
        return self.database.retried(call)

    def stats(self) -> Stats:
        """What there is, and how it is searched."""
        with self.reading() as reader:
            state, coming = reader.state, MvShadow(reader).coming()
            return Stats(
                state.documents,
                state.about.dim,
                "hnsw" if state.graph else "flat",
                self._why(state),
                state.recall,
                state.effort,
                None,
                None if coming is None else (coming.fingerprint, MvShadow(reader).done()),
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
        self._writer.lock.sweep()
        with self.reading() as reader:
            state = reader.state
        rebuilt = self._due(state) != state.graph or bool(list(self._stale(state)))
        if rebuilt and (state.coming is None or state.coming.about == state.about):
            self._rebuild()
        self._tune()

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

    def _due(self, state: State) -> bool:
        return self._index == "hnsw" or (self._index == "auto" and state.documents >= GRAPH_FROM)

    def _why(self, state: State) -> str:
        if state.graph:
            return "Milvus's HNSW"
        if self._due(state):
            return "there is no graph yet: compact() builds it"
        return f"index is {self._index!r}, and {state.documents} documents are searched exactly"

    def _advice(self, state: State) -> Iterator[str]:
        if self._due(state) and not state.graph:
            yield "all documents are compared: there is no graph; run compact"
        yield from self._stale(state)

    def _stale(self, state: State) -> Iterator[str]:
        """Why lines should be made anew."""
        if state.dead > _DEAD_SHARE * (state.documents + state.dead):
            yield f"{state.dead} of {state.dead + state.documents} lines are of documents that are gone; run compact"
        average = state.length / state.documents if state.documents else 0.0
        if average and not 1 / _DRIFT < average / state.average < _DRIFT:
            yield f"texts have {average:.0f} words, weights are of texts with {state.average:.0f}; run compact"

    def _rebuild(self) -> None:
        """Fill a new generation with the lines there are, and switch to it."""
        with self.shadow_writing() as shadow:
            shadow.begin(shadow.about())
        after = 0
        while True:
            with self.shadow_reading() as reading:
                rows, _ = reading.missing(after, _AT_ONCE)
            with self._writer.writing() as write:
                shadow = MvShadow(write.reader, write)
                if len(rows) < _AT_ONCE:  # the last ones, while others wait to write
                    rows, _ = shadow.missing(after, _AT_ONCE)
                vectors = write.reader.vectors_of_those(rows)
                shadow.fill(list(vectors), np.array(list(vectors.values())), shadow.about())
                if len(rows) < _AT_ONCE and not shadow.missing(after, 1)[0]:
                    shadow.switch(shadow.about())
                    return
            after = rows[-1] if rows else after

    def _tune(self) -> None:
        """Find the least effort that has the recall, for queries near stored vectors."""
        with self.read_view() as view:
            if not view.reader.state.graph or view.count < _SAMPLE:
                return
            queries = _near(view)
            exact = view.exact(queries, _K, None)
            effort, share = _EFFORTS[-1], 0.0
            for effort in _EFFORTS:
                rankings = MvView(view.reader, effort=effort).nearest(queries, _K, None)
                hits = [np.isin(rows, truth).mean() for (rows, _), (truth, _) in zip(rankings, exact, strict=True)]
                share = float(np.mean(hits))
                if share >= self._recall:
                    break
            generation = view.reader.state.generation
        with self._writer.writing() as write:
            if write.state.generation == generation:
                write.state = write.state._replace(effort=effort, recall=round(share, 4))


def _near(view: MvView) -> FloatMatrix:
    """Queries beside stored vectors, in the directions in which stored vectors differ."""
    draw, rows = np.random.default_rng(0), view.rows
    some, left, right = (view.vectors_of(draw.choice(rows, _SAMPLE).tolist()) for _ in range(3))
    return turned(some, left - right, _NEAR)
