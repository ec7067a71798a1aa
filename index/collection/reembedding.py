"""Re-embedding: vectors of another model filled in, then switched to in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from encoder_tools.errors import InputError, SaveError
from encoder_tools.protocols import FloatMatrix
from index.collection.encoding import Model
from index.collection.engine import Engine, ShadowVectors

_FEW = 16  # documents that are encoded while nobody else may write


class Reembedding:
    """One run, from where the last one was interrupted.

    :param model: the new one.
    :param restart: throw away what was begun with another model.
    :raises InputError: if another model was begun with, or the vectors are this model's already.
    """

    def __init__(self, engine: Engine, model: Model, *, restart: bool) -> None:
        self._engine, self._model = engine, model
        engine.run(partial(self._begin, restart=restart))

    def _begin(self, *, restart: bool) -> None:
        model = self._model
        with self._engine.shadow_writing() as shadow:
            begun = shadow.coming()
            if shadow.about() == model.about:
                raise InputError(f"The vectors of {model.folder} are of model {model.about.fingerprint} already.")
            if begun is not None and begun != model.about and not restart:
                raise InputError(
                    f"{model.folder} is being re-embedded with model {begun.fingerprint}. Go on with that one, or "
                    "throw its vectors away (restart=True, --restart)."
                )
            if begun != model.about or restart:
                shadow.begin(model.about)

    def progress(self) -> tuple[int, int]:
        """How many documents are done, of how many."""

        def read() -> tuple[int, int]:
            with self._engine.shadow_reading() as shadow:
                return shadow.done(), shadow.count()

        return self._engine.run(read)

    def run(self, batch: int, step: Callable[[int], None]) -> None:
        """Fill in all vectors and switch to them.

        :param step: called with how many were filled in.
        :raises SaveError: if another process began with another model, or ended this.
        """
        after = 0
        while True:
            rows, texts = self._engine.run(partial(self._missing, after, batch))
            if len(rows) <= _FEW:
                count = self._engine.run(partial(self._switched, after))
                if count:
                    step(count)
                if count is not None:
                    return
                continue
            vectors = self._model.documents(texts, show_progress=False)
            self._engine.run(partial(self._fill, rows, vectors))
            after = rows[-1]
            step(len(rows))

    def _missing(self, after: int, limit: int) -> tuple[list[int], list[str]]:
        with self._engine.shadow_reading() as shadow:
            self._check(shadow)
            return shadow.missing(after, limit)

    def _fill(self, rows: Sequence[int], vectors: FloatMatrix) -> None:
        with self._engine.shadow_writing() as shadow:
            self._check(shadow)
            shadow.fill(rows, vectors, self._model.about)

    def _switched(self, after: int) -> int | None:
        """Fill in the last few and switch, while others wait to write; None if there are more than a few by now.

        Where others write all the time there always are some: the fewer are left, the fewer come meanwhile.
        """
        with self._engine.shadow_writing() as shadow:
            if shadow.about() == self._model.about:
                return 0  # it was switched, and the answer to that was lost
            self._check(shadow)
            rows, texts = shadow.missing(after, _FEW + 1)
            if len(rows) > _FEW:
                return None
            if rows:
                vectors = self._model.documents(texts, show_progress=False)
                shadow.fill(rows, vectors, self._model.about)
            shadow.switch(self._model.about)
            return len(rows)

    def _check(self, shadow: ShadowVectors) -> None:
        about = shadow.coming()
        if about != self._model.about:
            said = "ended" if about is None else f"begun anew with model {about.fingerprint}"
            raise SaveError(f"Re-embedding {self._model.folder} was {said} by another process. Look at its stats.")
