"""What engines over servers have in common: the model of a collection, its options, the effort of its graph."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index.ann.builder import GRAPH_FROM
from index.ann.tuning import turned
from index.collection.encoding import KnownModels, Model, closed
from index.query.fusion import Ranking
from index.query.view import View
from index.storage.schema import About
from index.validation import check_score

T = TypeVar("T")
_EFFORTS = (
    *(40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256),
    *(320, 384, 448, 512, 640, 768, 896, 1000),
)
_SAMPLE, _NEAR, _K = 60, 0.75, 10


class GraphOptions(NamedTuple):
    """Which index a collection is opened with, and the recall that its graph is tuned to."""

    kind: str
    recall: float

    @classmethod
    def checked(cls, options: Mapping[str, Any]) -> GraphOptions:
        """Of ``Collection.open``.

        :raises InputError: for another index than "auto", "flat" or "hnsw".
        """
        index, recall = options.get("index", "auto"), check_score(options.get("recall", 0.95), "recall")
        if index not in ("auto", "flat", "hnsw") or not 0 < recall <= 1:
            raise InputError(f"index is {index!r} and recall {recall}, expected auto, flat or hnsw, and a share.")
        return cls(index, float(recall))

    def due(self, count: int) -> bool:
        """Whether so many documents should have a graph."""
        return self.kind == "hnsw" or (self.kind == "auto" and count >= GRAPH_FROM)

    def why(self, count: int, *, indexed: bool, name: str) -> str:
        """Why searches are made as they are, for people."""
        if indexed:
            return f"{name}'s HNSW"
        if self.due(count):
            return "there is no graph yet: compact() builds it"
        return f"index is {self.kind!r}, and {count} documents are searched exactly"


class Database(Protocol):
    """A connection to a server, for one collection."""

    @property
    def address(self) -> Any:
        """As errors name it."""

    def close(self) -> None:
        """Close it."""

    def retried(self, call: Callable[[], T]) -> T:
        """What a call gives; it is made again while the server is away."""


D = TypeVar("D", bound=Database)


@contextmanager
def closed_on_error(database: D) -> Iterator[D]:
    """A connection that stays open if the block ends well."""
    try:
        yield database
    except BaseException:
        database.close()
        raise


class RemoteEngine:
    """The part of :class:`index.collection.engine.Engine` that does not depend on the server.

    :param options: of ``Collection.open``.
    :param read_about: gives what the collection says of itself.
    """

    def __init__(
        self,
        database: Database,
        encoder: TextEncoder | None,
        options: Mapping[str, Any],
        read_about: Callable[[], About],
    ) -> None:
        self._remote, self._closed = database, False
        self._graph = GraphOptions.checked(options)
        self._about = about = database.retried(read_about)
        allow = bool(options.get("allow_sibling", False))
        self._models = KnownModels(Model.checked(self.folder, about, encoder, allow_sibling=allow))

    @property
    def folder(self) -> str:
        """The address, as errors name it."""
        return str(self._remote.address)

    @property
    def about(self) -> About:
        """Of the state that was seen last."""
        return self._about

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        return self._models.sibling(self._about)

    @property
    def tokens(self) -> Any:
        """Token vectors have no place in a database yet.

        :raises InputError: always.
        """
        raise InputError(f"rescore='tokens' is of collections in folders; {self.folder} keeps no vectors of tokens.")

    def check_open(self) -> None:
        """Raise an :class:`InputError` if it is closed."""
        if self._closed:
            raise closed(self.folder)

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self._remote.close()

    def model(self) -> Model:
        """For the vectors that there are now."""
        return self._models.of(self._about)

    def adopt(self, model: Model) -> None:
        """Know one more model."""
        self._models.add(model)

    def run(self, call: Callable[[], T]) -> T:
        """A read, made again while the server is away."""
        return self._remote.retried(call)


def tuned_effort(
    view: View, through_graph: Callable[[FloatMatrix, int, int], list[Ranking]], recall: float
) -> tuple[int, float] | None:
    """The least effort that has the recall for queries near stored vectors, and the recall; None for few vectors.

    :param through_graph: rankings of queries, for so many neighbors and an effort.
    """
    if view.count < _SAMPLE:
        return None
    queries = _near(view)
    exact = view.exact(queries, _K, None)

    @cache
    def share(effort: int) -> float:
        rankings = through_graph(queries, _K, effort)
        return float(
            np.mean([np.isin(rows, true).mean() for (rows, _), (true, _) in zip(rankings, exact, strict=True)])
        )

    # more effort finds no less, so that half of the efforts need not be tried each time
    effort = _EFFORTS[min(bisect_left(_EFFORTS, recall, key=share), len(_EFFORTS) - 1)]
    return effort, round(share(effort), 4)


def _near(view: View) -> FloatMatrix:
    """Queries beside stored vectors, in the directions in which stored vectors differ."""
    draw, rows = np.random.default_rng(0), view.rows
    some, left, right = (view.vectors_of(draw.choice(rows, _SAMPLE).tolist()) for _ in range(3))
    return turned(some, left - right, _NEAR)
