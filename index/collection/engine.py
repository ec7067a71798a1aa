"""What a collection needs of the engine that holds it, and which engine an address means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index.collection.encoding import Model
from index.query.filters import Filter
from index.query.view import DocumentReader, View
from index.rescoring.rescorer import TokenRescorer
from index.results import DocumentId, Stats
from index.storage.schema import About
from index.storage.writer import Batch

T = TypeVar("T")


class Writes(Protocol):
    """Writes, each all or nothing and on disk when it returns."""

    def upsert(self, batch: Batch, vectors: FloatMatrix, about: About) -> bool:
        """Store documents; False, and nothing is written, if the vectors there are another model's by now."""

    def set_metadata(self, ids: Sequence[DocumentId], metadata: Sequence[Mapping[str, Any] | None]) -> None:
        """Give documents other metadata."""

    def delete(self, ids: Sequence[DocumentId]) -> int:
        """Delete documents with their chunks; how many rows that were."""

    def delete_where(self, condition: Filter) -> int:
        """Delete what matches a filter; how many rows that were."""


class ShadowVectors(Protocol):
    """Vectors of another model, filled in beside those that are searched; in a transaction."""

    def about(self) -> About:
        """Of the vectors that are searched."""

    def coming(self) -> About | None:
        """Of those that are filled in, if any are."""

    def begin(self, about: About) -> None:
        """Make room for the vectors of a model; those of another one that were begun are discarded."""

    def count(self) -> int:
        """How many documents there are."""

    def done(self) -> int:
        """How many have their new vector."""

    def missing(self, after: int, limit: int) -> tuple[list[int], list[str]]:
        """The next rows without one, ascending, and their texts."""

    def fill(self, rows: Sequence[int], vectors: FloatMatrix, about: About) -> None:
        """Store new vectors, but for documents that are gone by now."""

    def switch(self, about: About) -> None:
        """Put the new vectors in the place of the old ones; all documents must have theirs."""


class Engine(Protocol):
    """Holds one open collection.

    :ivar tokens: ranks hits again; see :mod:`index.rescoring`.
    :ivar writes: see :class:`Writes`.
    """

    @property
    def tokens(self) -> TokenRescorer: ...  # noqa: D102 - see above
    @property
    def writes(self) -> Writes: ...  # noqa: D102 - see above
    @property
    def folder(self) -> Path | str:
        """Where it is, as errors name it."""

    @property
    def about(self) -> About:
        """Width, model and embedding space of the vectors."""

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""

    def check_open(self) -> None:
        """Raise an :class:`InputError` if it is closed."""

    def ping(self) -> None:
        """Raise an :class:`UnavailableError`, within seconds, if what holds it cannot be reached now."""

    def close(self) -> None:
        """Let go of it; a second call does nothing."""

    def model(self) -> Model:
        """For the vectors that there are now."""

    def adopt(self, model: Model) -> None:
        """Know one more model, before vectors are switched to it."""

    def follow(self) -> None:
        """Learn which model the vectors belong to by now, and what was written."""

    def run(self, call: Callable[[], T]) -> T:
        """What a read gives; where a server may go away, it is made again for a while."""

    def reading(self) -> AbstractContextManager[DocumentReader]:
        """One committed state of the documents."""

    def read_view(self) -> AbstractContextManager[View]:
        """One committed state, to be searched."""

    def shadow_reading(self) -> AbstractContextManager[ShadowVectors]:
        """A transaction that reads."""

    def shadow_writing(self) -> AbstractContextManager[ShadowVectors]:
        """A transaction that writes."""

    def stats(self) -> Stats:
        """What there is, and how it is searched."""

    def verify(self) -> int:
        """Read and check everything; how many documents there are."""

    def compact(self) -> None:
        """Build what searches should have by now, and give back disk space."""

    def backup(self, folder: Path) -> None:
        """Write a copy of the state now as an embedded collection."""


class EngineType(Protocol):
    """A kind of engine, by whose scheme addresses begin."""

    def create(self, address: str, encoder: TextEncoder, options: Mapping[str, Any]) -> None:
        """Make an empty collection."""

    def open(self, address: str, encoder: TextEncoder | None, options: Mapping[str, Any]) -> Engine:
        """Open one."""

    def drop(self, address: str) -> None:
        """Remove one."""


_LOADERS: dict[str, Callable[[], EngineType]] = {}


def register(scheme: str, load: Callable[[], EngineType]) -> None:
    """Let addresses that begin with ``scheme://`` be an engine's, which is loaded when one is opened."""
    _LOADERS[scheme] = load


def engine_type(address: str | Path) -> EngineType | None:
    """The kind of engine that an address means; None for a folder.

    :raises InputError: for an address that no engine is registered for.
    """
    scheme, separator, _ = str(address).partition("://")
    if isinstance(address, Path) or not separator:
        return None
    if scheme not in _LOADERS:
        raise InputError(
            f"There is no engine for addresses {scheme}://, expected a folder, or one of "
            f"{', '.join(f'{name}://' for name in sorted(_LOADERS))}."
        )
    return _LOADERS[scheme]()
