"""Opening a collection for vectors that a framework makes, and the ids that frameworks use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder_tools import OnnxEncoder
from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index import Collection
from index.results import DocumentId
from index.storage.database import DATABASE_NAME
from index.storage.precision import Storage
from index.validation import integer_id

_NAMES = ("model", "model_name", "model_id", "model_path", "repo_id", "deployment", "azure_deployment")
_PROBE = "the width of a vector"


class FrameworkEncoder:
    """A framework's embedding model as the encoder of a collection.

    :param documents: vectors of texts that are searched; ``queries`` of those that are searched for.
    :param fingerprint: names the model: equal names mean interchangeable vectors.
    """

    def __init__(
        self,
        documents: Callable[[list[str]], Any],
        queries: Callable[[list[str]], Any],
        fingerprint: str,
        dim: int | None = None,
    ) -> None:
        self._documents, self._queries, self.fingerprint = documents, queries, fingerprint
        self._dim = dim

    @property
    def dim(self) -> int:
        """Width of the vectors, found out by one text."""
        if self._dim is None:
            self._dim = int(self.encode_query([_PROBE]).shape[1])
        return self._dim

    def encode_query(self, texts: Sequence[str]) -> FloatMatrix:
        """Encode search queries."""
        return np.asarray(self._queries(list(texts)), dtype=np.float32)

    def encode_document(self, texts: Sequence[str]) -> FloatMatrix:
        """Encode the texts that are searched."""
        return np.asarray(self._documents(list(texts)), dtype=np.float32)

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """As documents are."""
        return self.encode_document(texts)


def vectors_of(fingerprint: str, dim: int) -> FrameworkEncoder:
    """Stands for a model that is elsewhere: a collection takes its vectors, and no text to encode."""

    def none_here(texts: list[str]) -> Any:
        raise InputError(
            f"{len(texts)} texts have no vectors, and their model ({fingerprint}) is not known here. Pass embeddings."
        )

    return FrameworkEncoder(none_here, none_here, fingerprint, dim)


def fingerprint_of(model: object) -> str:
    """A name of an embedding model, by its class and by what it says its model is."""
    kind = type(model)
    names = [str(getattr(model, name)) for name in _NAMES if isinstance(getattr(model, name, None), str | Path)]
    name = "\0".join([f"{kind.__module__}.{kind.__qualname__}", *names])
    return f"{kind.__name__}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def own_encoder(model: str | Path | None = None) -> OnnxEncoder:
    """An exported model; the one that is shipped for None."""
    return OnnxEncoder() if model is None else OnnxEncoder(model)


def open_or_create(
    folder: str | Path, encoder: TextEncoder, *, storage: Storage = "float32", stemming: str | None = None
) -> Collection:
    """The collection in ``folder``, which is made if there is none.

    :param storage: and ``stemming``: see :meth:`index.Collection.create`; of one that is there they stay as they are.
    :raises FingerprintError: if its vectors are another model's.
    """
    if is_collection(folder):
        return Collection.open(folder, encoder)
    return Collection.create(folder, encoder, storage=storage, stemming=stemming)


def is_collection(folder: str | Path) -> bool:
    """Whether there is one."""
    return (Path(folder) / DATABASE_NAME).is_file()


def stored_ids(collection: Collection, ids: Sequence[str]) -> list[DocumentId]:
    """Ids of a framework, which are strings, as a collection has them: of those that are integers, the integer."""
    distinct = list(dict.fromkeys(ids))
    numbers = [
        integer_id(identifier) if document is None else None
        for identifier, document in zip(distinct, collection.get(distinct), strict=True)
    ]
    return [name if number is None else number for name, number in zip(distinct, numbers, strict=True)]
