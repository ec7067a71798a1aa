"""The state of an open collection that all verbs share: database, models, and vectors in memory."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.protocols import FloatMatrix
from index.ann.builder import Builder
from index.ann.index_types import IndexType
from index.ann.tuning import SAMPLE
from index.collection.encoding import Model
from index.query.read_view import CollectionState, ReadView
from index.rescoring.rescorer import TokenRescorer
from index.storage.database import Database
from index.storage.reader import Reader
from index.storage.schema import About
from index.text.query_pieces import pieces_of

_log = logging.getLogger(__name__)


class OpenState:
    """Database, models, and the state in memory, shared by what searches and what writes."""

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
        self.models = {model.about: model}
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

    @property
    def about(self) -> About:
        """Width, model and embedding space of the vectors."""
        return self.state.about

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        model = self.models.get(self.about)
        return self.about.fingerprint if model is not None and model.sibling else None

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._closed = True
        self.state.close()
        self.database.close()

    def model(self) -> Model:
        """For the vectors that there are now.

        :raises FingerprintError: if another process has re-embedded the collection.
        """
        about = self.state.about
        if about not in self.models:
            raise FingerprintError(
                f"{self.folder} was re-embedded with model {about.fingerprint} while it was open. Open it again with "
                "that model."
            )
        return self.models[about]

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
        self.models = {**self.models, model.about: model}

    def check_open(self) -> None:
        """Check that the collection is open.

        :raises InputError: if it is closed.
        """
        if self._closed:
            raise InputError(f"The collection {self.folder} is closed. Open it again with Collection.open.")
