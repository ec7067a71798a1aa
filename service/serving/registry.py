"""The registry of served models, heads and collections, which can be exchanged while they are used."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from encoder_tools.errors import InputError
from encoder_tools.model.prompts import DOCUMENT, QUERY
from heads import FittedHead
from index import Collection
from service.batching import Computes, Engine
from service.errors import ApiError
from service.serving.embedder import Embedder, ServedEncoder
from service.serving.model_card import quality_of

if TYPE_CHECKING:
    from encoder_tools.runtime.cross_encoder import Pairs

T = TypeVar("T")
Kind: TypeAlias = Literal["model", "head", "collection"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a head or a collection may be called: nothing that means something in a path or a URL."""
ROLES = (QUERY, DOCUMENT)


def checked_name(name: str, kind: Kind) -> None:
    """Check that a head or a collection may be called that.

    :raises InputError: if not.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"A {kind} cannot be called {name[:100]!r}: expected up to 64 letters, digits, dots, hyphens and "
            "underscores, the first a letter or a digit."
        )


class Shared(Generic[T]):
    """Something that is closed when it has been retired and nobody uses it any more; for the event loop's thread."""

    def __init__(self, value: T, close: Callable[[T], None] = lambda _: None) -> None:
        self.value, self._close = value, close
        self._users, self._retired = 0, False
        self._over = asyncio.Event()

    @contextmanager
    def used(self) -> Iterator[T]:
        """The value, open until the block ends."""
        self._users += 1
        try:
            yield self.value
        finally:
            self._users -= 1
            self._close_if_over()

    def retire(self) -> None:
        """Nobody gets it from now on."""
        if not self._retired:
            self._retired = True
            self._close_if_over()

    async def closed(self) -> None:
        """Wait until nobody uses it any more, once it has been retired."""
        await self._over.wait()

    def _close_if_over(self) -> None:
        if self._retired and not self._users:
            self._close(self.value)
            self._over.set()


@dataclass(frozen=True)
class ServedModel:
    """A model, its queue, and the names it goes by, its own first."""

    names: tuple[str, ...]
    embedder: Embedder
    created: int = field(default_factory=lambda: int(time.time()))

    @cached_property
    def quality(self) -> list[list[str]]:
        """The first table of figures in the model's card, its head first; read when it is first asked for."""
        folder = getattr(self.encoder, "folder", None)
        return [] if folder is None else quality_of(folder.path / "README.md")

    @property
    def name(self) -> str:
        """Its own name."""
        return self.names[0]

    @property
    def encoder(self) -> ServedEncoder:
        """The model itself."""
        return self.embedder.encoder


class PairEncoder(Computes, Protocol):
    """What the service needs of a cross-encoder."""

    def pairs(self, query: str, texts: Sequence[str]) -> Pairs:
        """A query with each text, as token ids for :meth:`encode_tokens`, which gives one score each."""


class Resolved(NamedTuple):
    """What a request's ``model`` means: a model, and the prompt that ``name:query`` or ``name:document`` asks for."""

    model: ServedModel
    prompt_name: str | None


@dataclass(frozen=True)
class ServedReranker:
    """A cross-encoder and its queue."""

    name: str
    encoder: PairEncoder
    engine: Engine


@dataclass(frozen=True)
class ServedHead:
    """A classifier, and the name of the model whose vectors it takes."""

    head: FittedHead
    model: str
    folder: Path | None = None


@dataclass(frozen=True)
class ServedCollection:
    """A collection, and the name of the model that answers queries over it.

    :ivar ours: whether it was made over HTTP, and may be dropped so.
    :ivar address: by which it is opened again; None where it was opened elsewhere.
    """

    shared: Shared[Collection]
    model: str
    folder: Path | None = None
    ours: bool = False
    address: str | None = None

    @property
    def remote(self) -> bool:
        """Whether a database holds it, which may be away."""
        return isinstance(self.shared.value.folder, str)


def serve_collection(
    collection: Collection,
    model: str,
    folder: Path | None = None,
    *,
    ours: bool = False,
    address: str | None = None,
) -> ServedCollection:
    """An open collection, to be closed after its last use."""
    at = address or (None if folder is None else str(folder))
    return ServedCollection(Shared(collection, Collection.close), model, folder, ours, at)


class Parts(NamedTuple):
    """Heads and collections, open.

    :ivar unavailable: folders in the data folder that cannot be served as collections, and why.
    """

    heads: dict[str, ServedHead]
    collections: dict[str, ServedCollection]
    unavailable: dict[str, str]


class Registry:
    """Names and what they stand for. Lookups that fail are 404s which say what there is.

    :ivar unavailable: collections of the data folder that cannot be served, and why.
    :ivar changing: held by whoever makes, drops or exchanges collections, from the first look at the disk until the
        names say what is there: two such changes at once would each undo the other's.
    """

    def __init__(self) -> None:
        self.models: dict[str, ServedModel] = {}
        self.rerankers: dict[str, ServedReranker] = {}
        self.heads: dict[str, ServedHead] = {}
        self.collections: dict[str, ServedCollection] = {}
        self.unavailable: dict[str, str] = {}
        self.changing = asyncio.Lock()

    def add_model(self, model: ServedModel) -> None:
        """Serve a model.

        :raises InputError: if one of its names is taken, or ends as those do that ask for a prompt.
        """
        taken = {name for served in self.models.values() for name in served.names}
        for name in model.names:
            if name in taken or len(model.names) != len(set(model.names)):
                raise InputError(f"Two models are called {name!r}. Give each its own names.")
            if not name or name.endswith(tuple(f":{role}" for role in ROLES)):
                raise InputError(f"A model cannot be called {name!r}: that asks for a prompt of the model before it.")
        self.models[model.name] = model

    def add_reranker(self, served: ServedReranker) -> None:
        """Serve a cross-encoder.

        :raises InputError: if its name is a model's.
        """
        scores = getattr(served.encoder, "dim", 1)
        if scores != 1:
            raise InputError(f"{served.name!r} gives {scores} scores a pair, as a classifier; a reranker gives one.")
        if self._by_name(served.name) is not None or served.name in self.rerankers:
            raise InputError(f"Two models are called {served.name!r}. Give each its own name.")
        self.rerankers[served.name] = served

    def reranker(self, name: str | None) -> ServedReranker | None:
        """The cross-encoder of that name; of no name the first; None where an embedder is meant."""
        if name is None:
            return next(iter(self.rerankers.values()), None)
        return self.rerankers.get(name)

    def add_head(self, name: str, served: ServedHead) -> None:
        """Serve a head, in place of the one of that name.

        :raises InputError: if it takes vectors of another width than its model gives.
        """
        self._check_head(name, served)
        self.heads[name] = served

    def add_collection(self, name: str, served: ServedCollection) -> None:
        """Serve a collection, in place of the one of that name, which is closed once nobody reads it any more."""
        self._check_collection(name, served)
        before = self.collections.get(name)
        self.collections[name] = served
        if before is not None:
            before.shared.retire()

    def remove_collection(self, name: str) -> None:
        """Serve it no longer."""
        self.collections.pop(name).shared.retire()

    def exchange(self, heads: Mapping[str, ServedHead], collections: Mapping[str, ServedCollection]) -> None:
        """Serve these heads and collections instead of those there are; who uses an old one may finish.

        :raises InputError: as :meth:`add_head` and :meth:`add_collection` do; nothing is exchanged then.
        """
        for name, head in heads.items():
            self._check_head(name, head)
        for name, collection in collections.items():
            self._check_collection(name, collection)
        before = self.collections
        self.heads, self.collections = dict(heads), dict(collections)
        for served in before.values():
            if served not in self.collections.values():
                served.shared.retire()

    def resolve(self, name: str) -> Resolved:
        """The model that a request means.

        :raises ApiError: 404 if there is none.
        """
        served = self._by_name(name)
        if served is not None:
            return Resolved(served, None)
        base, _, role = name.rpartition(":")
        served = self._by_name(base) if role in ROLES else None
        if served is None:
            names = [name for model in self.models.values() for name in model.names]
            raise ApiError(
                404,
                f"The model {name[:200]!r} does not exist here; this server has {', '.join(names)}.",
                code="model_not_found",
                param="model",
            )
        return Resolved(served, role)

    def default_model(self) -> ServedModel:
        """The model that requests mean which name none: the first."""
        return next(iter(self.models.values()))

    def head(self, name: str | None) -> tuple[str, ServedHead]:
        """A head and its name; None means the only one there is.

        :raises ApiError: 404 if there is none, 400 if there are several and none is named.
        """
        return _chosen(self.heads, name, "head", "--head NAME=FOLDER")

    def collection(self, name: str | None) -> tuple[str, ServedCollection]:
        """A collection and its name, as :meth:`head`.

        :raises ApiError: 503 too, if it is there and cannot be opened.
        """
        if name in self.unavailable and name not in self.collections:
            message = f"The collection {name!r} cannot be served: {self.unavailable[name]}"
            raise ApiError(503, message, code="collection_unavailable", kind="server_error")
        return _chosen(self.collections, name, "collection", "--collection NAME=FOLDER")

    def close(self) -> None:
        """Stop the models' threads and close the collections once nobody reads them."""
        self.stop()
        self.exchange({}, {})

    def stop(self) -> None:
        """Fail what waits for the models, and let what runs in them end."""
        for engine in [model.embedder.engine for model in self.models.values()] + [
            served.engine for served in self.rerankers.values()
        ]:
            engine.close()

    def _check_head(self, name: str, served: ServedHead) -> None:
        encoder = self._model(served.model).encoder
        if served.head.dim != encoder.dim:
            raise InputError(f"The head takes vectors of width {served.head.dim}, the model gives {encoder.dim}.")
        checked_name(name, "head")

    def _check_collection(self, name: str, served: ServedCollection) -> None:
        self._model(served.model)
        checked_name(name, "collection")

    def _by_name(self, name: str) -> ServedModel | None:
        return next((model for model in self.models.values() if name in model.names), None)

    def _model(self, name: str) -> ServedModel:
        if name not in self.models:
            raise InputError(f"There is no model {name!r}; there are {', '.join(self.models) or 'none'}.")
        return self.models[name]


def _chosen(served: Mapping[str, T], name: str | None, kind: Kind, flag: str) -> tuple[str, T]:
    names = ", ".join(served)
    if name is None and len(served) == 1:
        return next(iter(served.items()))
    if name is None and served:
        raise ApiError(
            400, f"This server has several {kind}s: {names}. Name one as {kind!r}.", param=kind, code=f"{kind}_missing"
        )
    if name is None or name not in served:
        missing = f"There is no {kind} {name[:200]!r} here" if name else f"This server has no {kind}"
        there_are = f"; there are {names}." if names else f". Start it with: encoder-tools serve {flag}"
        raise ApiError(404, missing + there_are, code=f"{kind}_not_found", param=kind if name else None)
    return name, served[name]
