"""The embedded engine: a folder with a SQLite database, models, and vectors in memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from encoder_tools.errors import FileCorruptError, InputError, SaveError
from encoder_tools.io.staging import staged_folder
from encoder_tools.protocols import FloatMatrix
from index.ann.builder import Builder
from index.ann.cache import read_manifest
from index.ann.index_types import IndexType
from index.ann.tuning import SAMPLE
from index.collection.embedded.sqlite_writes import SqliteShadow, SqliteWrites
from index.collection.encoding import KnownModels, Model, closed
from index.query.read_view import CollectionState, ReadView
from index.rescoring.rescorer import TokenRescorer
from index.results import Stats
from index.storage import fts
from index.storage.database import DATABASE_NAME, Database
from index.storage.integrity import verify
from index.storage.reader import Reader
from index.storage.schema import About
from index.text.query_pieces import pieces_of

_log = logging.getLogger(__name__)
T = TypeVar("T")


class OpenState:
    """An open collection in a folder; see :class:`index.collection.engine.Engine`."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        model: Model,
        *,
        index: IndexType,
        recall: float,
        remember_queries: bool,
    ) -> None:
        self.folder, self.database = folder, database
        self.models = KnownModels(model)
        self.tokens = TokenRescorer(folder)
        self._closed = False
        self.state = CollectionState(
            database,
            model.about,
            str(folder),
            lambda about: Builder(
                folder, about, index, recall, lambda: self._query_pieces(about), remember=remember_queries
            ),
        )
        self.writes = SqliteWrites(database, self.state, self.check_open)

    @property
    def about(self) -> About:
        """Width, model and embedding space of the vectors."""
        return self.state.about

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        return self.models.sibling(self.about)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._closed = True
        self.state.close()
        self.database.close()

    def ping(self) -> None:
        """Nothing is between this process and a folder."""
        self.check_open()

    def model(self) -> Model:
        """For the vectors that there are now.

        :raises FingerprintError: if another process has re-embedded the collection.
        """
        return self.models.of(self.state.about)

    def _query_pieces(self, about: About) -> FloatMatrix | None:
        """Vectors (n, dim) of short pieces of stored texts as queries, if there is a model for them."""
        model = self.models.get(about)
        if model is None or model.encoder is None:
            return None
        generator = np.random.default_rng(0)
        try:
            with self.state.reading() as reader:
                pieces = pieces_of(reader.some_texts(SAMPLE, generator), generator)
            return model.queries(pieces) if pieces else None
        except InputError as error:  # of an encoder that stands for a model which is elsewhere
            _log.info("%s: short texts are left out of the tuning: %s", self.folder, error)
            return None
        except Exception:  # noqa: BLE001 - of somebody else's encoder: whatever it is, an index is tuned without
            _log.exception("%s: the model could not encode short texts; they are left out of the tuning.", self.folder)
            return None

    def run(self, call: Callable[[], T]) -> T:
        """What a read gives; no server goes away."""
        return call()

    def reading(self) -> AbstractContextManager[Reader]:
        """One committed state of the database alone, while the block runs.

        :raises InputError: if the collection is closed.
        """
        self.check_open()
        return self.state.reading()

    def read_view(self) -> AbstractContextManager[ReadView]:
        """The last committed state, in the database and in memory, while the block runs.

        :raises InputError: if the collection is closed.
        """
        self.check_open()
        return self.state.read_view()

    def follow(self) -> None:
        """Learn which model the vectors belong to by now, and load what was written."""
        with self.read_view():
            pass

    def adopt(self, model: Model) -> None:
        """Know one more model, before vectors are switched to it."""
        self.models.add(model)

    @contextmanager
    def shadow_reading(self) -> Iterator[SqliteShadow]:
        """A transaction that reads."""
        with self.database.reading() as connection:
            yield SqliteShadow(connection, self.database.path)

    @contextmanager
    def shadow_writing(self) -> Iterator[SqliteShadow]:
        """A transaction that writes."""
        with self.database.writing() as connection:
            yield SqliteShadow(connection, self.database.path)

    def stats(self) -> Stats:
        """What there is, and how it is searched."""
        with self.read_view() as view:
            view.builder.wait_until_loaded(view.snapshot)
            graph = view.builder.graph
            return Stats(
                len(view.snapshot),
                view.about.dim,
                "flat" if graph is None else graph.kind.name,
                view.builder.why,
                None if graph is None else graph.tuning.worst,
                None if graph is None else graph.tuning.effort(10),
                sum(file.stat().st_size for file in self.folder.iterdir() if file.is_file()),
                view.reader.reembedded(),
                None if graph is None else graph.tuning.recall,
                view.about.storage,
            )

    def verify(self) -> int:
        """Read everything and check it; return how many documents there are."""
        database = self.database
        lost = database.lost_writes()
        if lost is not None:
            raise FileCorruptError(lost)
        with self.reading() as reader:
            self._check_manifest(reader)
            count = verify(reader, database.path)
        with suppress(SaveError), database.writing() as connection:  # a folder that is read-only cannot be checked so
            fts.check(connection)
        return count

    def check_manifest(self) -> None:
        """Check that no file beside the database is of a later write than the database's last one.

        :raises FileCorruptError: if one is: the database lost writes.
        """
        with self.reading() as reader:
            self._check_manifest(reader)

    def _check_manifest(self, reader: Reader) -> None:
        about = reader.about
        manifest, _ = read_manifest(self.folder, about)
        if manifest is not None and manifest.sequence > reader.sequence():
            raise FileCorruptError(_behind(self.database.path, manifest.sequence, reader.sequence()))

    def compact(self) -> None:
        """Build the index that searches should have by now, and give back disk space that deletes have left."""
        with self.read_view() as view:
            snapshot, builder, words = view.snapshot, view.builder, view.words
        builder.wait_until_built(snapshot)
        words.wait_until_made(snapshot)
        if os.access(self.database.path, os.W_OK):
            self.database.shrink()

    def backup(self, folder: Path) -> None:
        """Write a copy of the collection as it is now into a new folder."""
        self.check_open()
        with staged_folder(folder) as staged:
            self.database.copy(staged / DATABASE_NAME)

    def check_open(self) -> None:
        """Check that the collection is open.

        :raises InputError: if it is closed.
        """
        if self._closed:
            raise closed(self.folder)


def _behind(path: Path, sequence: int, own: int) -> str:
    return (
        f"{path} ends with write {own}, but the index beside it was made after write {sequence}: the database lost "
        "writes, or was restored to an earlier state. Restore a backup; if this state is intended, run `compact`."
    )
