"""A collection and its model: whether they belong together, and vectors of texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.model.embedding_space import check_sibling, space_of
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index.storage.schema import About
from index.validation import texts_for_ids, unit_vectors

_ENCODE_AT_ONCE = 1024


def is_list(value: Any) -> bool:
    """Whether a value holds several, and is no text."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def is_vector(value: Any) -> bool:
    """Whether a value is one list of numbers, or looks like it; a search by a vector must not look at each of them."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.ndim == 1
    return is_list(value) and not any(map(is_list, value))


def about_of(encoder: TextEncoder, storage: str) -> About:
    """What a collection of an encoder's vectors says of itself."""
    return About(encoder.dim, encoder.fingerprint, space_of(encoder).root, storage)


@dataclass(frozen=True)
class Model:
    """The encoder of a collection's vectors, or that there is none.

    :ivar folder: of the collection, named in errors.
    :ivar about: the vectors that it is for.
    :ivar sibling: whether the encoder is only a sibling of the model that made them.
    """

    folder: Path | str
    about: About
    encoder: TextEncoder | None
    sibling: bool = False

    @classmethod
    def checked(cls, folder: Path | str, about: About, encoder: TextEncoder | None, *, allow_sibling: bool) -> Model:
        """An encoder for vectors that are there.

        :raises FingerprintError: if it is neither the model that made them nor a sibling that was asked for.
        :raises InputError: if it gives another width.
        """
        if encoder is None:
            return cls(folder, about, None)
        sibling = check_sibling(
            f"The collection in {folder}",
            about.fingerprint,
            about.space,
            encoder,
            allow=allow_sibling,
            again="re-embed the collection (reembed)",
        )
        if about.dim != encoder.dim:
            raise InputError(
                f"{folder} holds vectors of width {about.dim}, the encoder gives {encoder.dim}. Set its dim."
            )
        return cls(folder, about, encoder, sibling)

    def any(self) -> TextEncoder:
        """The encoder.

        :raises InputError: if there is none.
        """
        if self.encoder is None:
            raise InputError(f"{self.folder} was opened without a model, so it takes no new text. Open it with one.")
        return self.encoder

    def documents(self, texts: Sequence[str], show_progress: bool | None = None) -> FloatMatrix:
        """Unit vectors (n, dim) of documents.

        :raises InputError: if there is no encoder, or only a sibling.
        """
        if self.sibling:
            raise InputError(
                f"The vectors of {self.folder} are of model {self.about.fingerprint}, this encoder is only its "
                "sibling. Pass vectors of that model, or open the collection with it."
            )
        vectors = unit_vectors(encode_documents(self.any(), texts, show_progress), self.about.dim)
        if len(vectors) != len(texts):
            raise InputError(f"The encoder gave {len(vectors)} vectors for {len(texts)} texts, expected one each.")
        return vectors

    def queries(self, queries: Any) -> FloatMatrix:
        """Unit vectors (n, dim) of texts, or of vectors."""
        if any(isinstance(query, str) for query in queries):
            queries = self.any().encode_query(texts_for_ids(queries, len(queries)))
        return unit_vectors(queries, self.about.dim, name="query vector")


class KnownModels:
    """The models of an open collection's vectors: the one that it was opened with, and those that were switched to.

    :param first: of the vectors that it was opened with.
    """

    def __init__(self, first: Model) -> None:
        self._models = {first.about: first}

    def add(self, model: Model) -> None:
        """Know one more."""
        self._models = {**self._models, model.about: model}

    def get(self, about: About) -> Model | None:
        """For some vectors, if it is known."""
        return self._models.get(about)

    def of(self, about: About) -> Model:
        """For some vectors.

        :raises FingerprintError: if another process has re-embedded the collection.
        """
        if about not in self._models:
            folder = next(iter(self._models.values())).folder
            raise FingerprintError(
                f"{folder} was re-embedded with model {about.fingerprint} while it was open. Open it again with that "
                "model."
            )
        return self._models[about]

    def sibling(self, about: About) -> str | None:
        """Fingerprint of the model that made some vectors, if the encoder is only its sibling."""
        model = self._models.get(about)
        return about.fingerprint if model is not None and model.sibling else None


def closed(folder: Path | str) -> InputError:
    """What to raise where a collection is closed."""
    return InputError(f"The collection {folder} is closed. Open it again with Collection.open.")


def encode_documents(encoder: TextEncoder, texts: Sequence[str], show_progress: bool | None) -> FloatMatrix:
    """Encode in slices, so that a bar can move; the protocol itself knows no progress."""
    starts = range(0, len(texts), _ENCODE_AT_ONCE)
    if show_progress is None:
        show_progress = len(starts) > 1 and sys.stderr.isatty()
    from tqdm import tqdm

    with tqdm(total=len(texts), unit="text", desc="encode", disable=not show_progress) as bar:
        parts = []
        for start in starts:
            parts.append(encoder.encode_document(texts[start : start + _ENCODE_AT_ONCE]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)
