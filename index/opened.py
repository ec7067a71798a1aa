"""An open collection: what all its verbs stand on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from encoder_tools.errors import InputError
from encoder_tools.protocols import TextEncoder
from index.builder import Builder, Kind
from index.database import Database
from index.live import Live, Rest
from index.reader import Reader
from index.schema import About


class OpenCollection:
    """Database, model, and the state in memory."""

    def __init__(
        self,
        folder: Path,
        encoder: TextEncoder | None,
        database: Database,
        about: About,
        *,
        sibling: bool,
        index: Kind,
        recall: float,
    ) -> None:
        self._folder, self._encoder, self._database, self._about = folder, encoder, database, about
        self._sibling = sibling
        self._closed = False
        self._live = Live(database, about.dim, str(folder), Builder(folder, about, index, recall))

    @property
    def about(self) -> About:
        """Width, model and space of the vectors."""
        return self._about

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        return self._about.fingerprint if self._sibling else None

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._closed = True
        self._live.builder.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _model(self) -> TextEncoder:
        if self._encoder is None:
            raise InputError(f"{self._folder} was opened without a model, so it takes no new text. Open it with one.")
        return self._encoder

    def _reading(self) -> AbstractContextManager[Reader]:
        self._check_open()
        return self._live.reading()

    def _at_rest(self) -> AbstractContextManager[Rest]:
        self._check_open()
        return self._live.at_rest()

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"The collection {self._folder} is closed. Open it again with Collection.open.")
