"""An open collection: what all its verbs stand on."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np

from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.protocols import FloatMatrix
from index.ann.builder import Builder, Kind
from index.ann.tuning import SAMPLE
from index.collection.encoding import Model
from index.query.read_view import Live, Rest
from index.storage.database import Database
from index.storage.reader import Reader
from index.storage.schema import About
from index.text.query_pieces import pieces_of

_log = logging.getLogger(__name__)


class OpenCollection:
    """Database, models, and the state in memory."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        model: Model,
        *,
        index: Kind,
        recall: float,
        remember_queries: bool,
    ) -> None:
        self._folder, self._database = folder, database
        self._models = {model.about: model}
        self._closed = False
        self._live = Live(
            database,
            model.about,
            str(folder),
            lambda about: Builder(
                folder, about, index, recall, lambda: self._query_pieces(about), remember=remember_queries
            ),
        )

    @property
    def about(self) -> About:
        """Width, model and space of the vectors."""
        return self._live.about

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        model = self._models.get(self.about)
        return self.about.fingerprint if model is not None and model.sibling else None

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._closed = True
        self._live.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _model(self) -> Model:
        """For the vectors that there are now.

        :raises FingerprintError: if another process has re-embedded the collection.
        """
        about = self._live.about
        if about not in self._models:
            raise FingerprintError(
                f"{self._folder} was re-embedded with model {about.fingerprint} while it was open. Open it again with "
                "that model."
            )
        return self._models[about]

    def _query_pieces(self, about: About) -> FloatMatrix | None:
        """Vectors (n, dim) of short pieces of stored texts as queries, if there is a model for them."""
        model = self._models.get(about)
        if model is None or model.encoder is None:
            return None
        generator = np.random.default_rng(0)
        try:
            with self._live.reading() as reader:
                pieces = pieces_of(reader.some_texts(SAMPLE, generator), generator)
            return model.queries(pieces) if pieces else None
        except Exception:  # noqa: BLE001 - of somebody else's encoder: whatever it is, an index is tuned without
            _log.exception("%s: the model could not encode short texts; they are left out of the tuning.", self._folder)
            return None

    def _reading(self) -> AbstractContextManager[Reader]:
        self._check_open()
        return self._live.reading()

    def _at_rest(self) -> AbstractContextManager[Rest]:
        self._check_open()
        return self._live.at_rest()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"The collection {self._folder} is closed. Open it again with Collection.open.")
