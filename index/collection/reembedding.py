"""Re-embedding: vectors of another model filled in, then switched to in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from encoder_tools.errors import InputError, SaveError
from index.collection.encoding import Model
from index.storage import shadow_vectors as generations
from index.storage.database import Database
from index.storage.reader import Reader
from index.storage.schema import About, about_in

_FEW = 16  # documents that are encoded while nobody else may write


class Reembedding:
    """One run, from where the last one was interrupted.

    :param model: the new one.
    :param restart: throw away what was begun with another model.
    :raises InputError: if another model was begun with, or the vectors are this model's already.
    """

    def __init__(self, database: Database, model: Model, *, restart: bool) -> None:
        self._database, self._model, self._path = database, model, database.path
        with database.writing() as connection:
            begun = generations.coming(connection)
            if about_in(connection, self._path) == model.about:
                raise InputError(f"The vectors of {model.folder} are of model {model.about.fingerprint} already.")
            if begun is not None and begun != model.about and not restart:
                raise InputError(
                    f"{model.folder} is being re-embedded with model {begun.fingerprint}. Go on with that one, or "
                    "throw its vectors away (restart=True, --restart)."
                )
            if begun != model.about or restart:
                generations.begin(connection, model.about)

    def progress(self) -> tuple[int, int]:
        """How many documents are done, of how many."""
        with self._database.reading() as connection:
            return generations.done(connection), Reader(connection, self._path).count()

    def run(self, batch: int, step: Callable[[int], None]) -> None:
        """Fill in all vectors and switch to them.

        :param step: called with how many were filled in.
        :raises SaveError: if another process began with another model, or ended this.
        """
        after = 0
        while True:
            with self._database.reading() as connection:
                self._check(connection)
                rows, texts = self._next(connection, after, batch)
            if len(rows) <= _FEW:
                count = self._switched(after)
                if count:
                    step(count)
                if count is not None:
                    return
                continue
            vectors = self._model.documents(texts, show_progress=False)
            with self._writing() as connection:
                generations.fill(connection, rows, vectors, self._model.about)
            after = rows[-1]
            step(len(rows))

    def _switched(self, after: int) -> int | None:
        """Fill in the last few and switch, while others wait to write; None if there are more than a few by now.

        Where others write all the time there always are some: the fewer are left, the fewer come meanwhile.
        """
        with self._writing() as connection:
            rows, texts = self._next(connection, after, _FEW + 1)
            if len(rows) > _FEW:
                return None
            if rows:
                vectors = self._model.documents(texts, show_progress=False)
                generations.fill(connection, rows, vectors, self._model.about)
            generations.switch(connection, self._model.about)
            return len(rows)

    def _next(self, connection: sqlite3.Connection, after: int, limit: int) -> tuple[list[int], list[str]]:
        rows = generations.missing(connection, after, limit)
        documents = Reader(connection, self._path).by_rows(rows)
        return rows, [documents[row].text for row in rows]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._database.writing() as connection:
            self._check(connection)
            yield connection

    def _check(self, connection: sqlite3.Connection) -> None:
        about: About | None = generations.coming(connection)
        if about != self._model.about:
            said = "ended" if about is None else f"begun anew with model {about.fingerprint}"
            raise SaveError(f"Re-embedding {self._model.folder} was {said} by another process. Look at its stats.")
