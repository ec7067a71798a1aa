"""The quality of a collection's searches by judged queries, and which weights suit a hybrid search."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.aliases import Log
from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index.collection.chunk_store import place_of
from index.collection.collection import Collection
from index.quality.judgments import Judged
from index.quality.metrics import Measures, measure
from index.query.fusion import Fusion
from index.query.search import Mode

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
_DEPTH, _AT_ONCE = 100, 64
_RESAMPLES, _SEED = 2000, 0
_FEWEST = 40  # queries, from which weights are chosen on one half and checked on the other
_LOOKED_AT = 1000  # documents, among which chunks are looked for
_WEIGHTS = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True)
class Figure:
    """A mean over queries, and where 95 % of resamples of the queries have it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """Of one kind of search.

    :ivar ndcg: of the first ten, ``recall`` of the first hundred, ``reciprocal_rank`` within them.
    """

    ndcg: Figure
    recall: Figure
    reciprocal_rank: Figure


@dataclass(frozen=True)
class Advice:
    """Weights of a hybrid search that were best on one half of the queries, checked on the other.

    :ivar fusion: and ``dense_weight``, with 1 less it for the words.
    :ivar queries: of the half that it was checked on.
    :ivar ndcg: there, with these weights, and ``default`` with equal ones.
    :ivar gain: of one over the other, query by query.
    :ivar certainty: share of resamples in which it is a gain.
    """

    fusion: Fusion
    dense_weight: float
    queries: int
    ndcg: float
    default: float
    gain: Figure
    certainty: float

    @property
    def clear(self) -> bool:
        """Whether 95 % of resamples show a gain."""
        return self.gain.low > 0


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    :ivar queries: how many.
    :ivar missing: relevant documents that the collection does not hold: no search can find them.
    :ivar advice: None for few queries, or without a model.
    """

    queries: int
    missing: int
    quality: Mapping[Mode, Quality]
    advice: Advice | None


def evaluate_collection(
    collection: Collection, judged: Judged, encoder: TextEncoder | None, log: Log = lambda _: None
) -> Evaluation:
    """Measure dense, lexical and hybrid search, and choose weights for the last.

    A document in chunks counts once, where its best chunk is.

    :param encoder: of the queries; None measures the search by words alone.
    """
    searches = _Searches(collection, judged, encoder)
    every = list(judged.queries)
    modes: Sequence[Mode] = MODES if encoder is not None else ("lexical",)
    quality = {}
    for mode in modes:
        log(f"{mode}: {len(every)} queries")
        quality[mode] = _quality(searches.measures(every, mode))
    advice = None
    if encoder is not None and len(every) >= _FEWEST:
        log(f"hybrid: {2 * len(_WEIGHTS)} weights on half of the queries")
        advice = _advice(searches, every)
    return Evaluation(len(every), searches.missing(), quality, advice)


class _Searches:
    """Runs the same queries again and again, which are encoded once."""

    def __init__(self, collection: Collection, judged: Judged, encoder: TextEncoder | None) -> None:
        self._collection, self._judged = collection, judged
        self._position = {query: number for number, query in enumerate(judged.queries)}
        self._vectors: FloatMatrix | None = None
        if encoder is not None:
            self._vectors = encoder.encode_query(list(judged.queries.values()))
        self._chunked = any(place_of(one) is not None for one in islice(collection.scan(), _LOOKED_AT))

    def measures(self, queries: Sequence[str], mode: Mode, **options: Any) -> list[Measures]:
        """Of each query."""
        made = []
        for start in range(0, len(queries), _AT_ONCE):
            part = queries[start : start + _AT_ONCE]
            for query, ranking in zip(part, self._rankings(part, mode, options), strict=True):
                made.append(measure(ranking, self._judged.relevance[query]))
        return made

    def _rankings(self, queries: Sequence[str], mode: Mode, options: Mapping[str, Any]) -> Iterator[list[str]]:
        texts = [self._judged.queries[query] for query in queries]
        vectors = None
        if mode != "lexical" and self._vectors is not None:
            vectors = self._vectors[[self._position[query] for query in queries]]
        group = "document" if self._chunked else None
        found = self._collection.search_many(texts, _DEPTH, mode=mode, vectors=vectors, group_by=group, **options)
        for hits in found:
            yield [str((place_of(hit) or (hit.id,))[0]) for hit in hits]

    def missing(self) -> int:
        """Relevant documents that are not there."""
        stored = {str(identifier) for identifier in self._collection.ids()}
        grades = self._judged.relevance.values()
        return len({name for one in grades for name, grade in one.items() if grade > 0} - stored)


def _quality(measures: Sequence[Measures]) -> Quality:
    columns = np.array(measures)
    return Quality(*(_figure(columns[:, column]) for column in range(columns.shape[1])))


def _figure(values: NDArray[np.float64]) -> Figure:
    low, high = np.quantile(_resampled(values), [0.025, 0.975])
    return Figure(float(values.mean()), float(low), float(high))


def _resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of resamples, by the bootstrap."""
    generator = np.random.default_rng(_SEED)
    means = [values[generator.integers(len(values), size=len(values))].mean() for _ in range(_RESAMPLES)]
    return np.array(means)


def _advice(searches: _Searches, queries: Sequence[str]) -> Advice:
    first = [query for query in queries if zlib.crc32(query.encode()) % 2]
    second = [query for query in queries if not zlib.crc32(query.encode()) % 2]
    if not first or not second:
        raise InputError("The ids of the queries cannot be divided in two halves. Give them different ids.")

    def ndcg(half: Sequence[str], fusion: Fusion, weight: float) -> NDArray[np.float64]:
        weights = {"dense": weight, "lexical": 1 - weight}
        return np.array([one.ndcg for one in searches.measures(half, "hybrid", fusion=fusion, weights=weights)])

    fusions: tuple[Fusion, ...] = ("rrf", "weighted")
    choices = [(fusion, weight) for fusion in fusions for weight in _WEIGHTS]
    fusion, weight = max(choices, key=lambda choice: ndcg(first, *choice).mean())
    chosen, default = ndcg(second, fusion, weight), ndcg(second, "rrf", 0.5)
    gains = chosen - default
    certainty = float((_resampled(gains) > 0).mean())
    return Advice(fusion, weight, len(second), float(chosen.mean()), float(default.mean()), _figure(gains), certainty)
