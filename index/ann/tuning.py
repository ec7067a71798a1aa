"""The effort that an index needs for the target recall, measured on vectors that resemble queries.

Stored vectors are easy queries: the index was built around them. Real ones lie beside, between and outside of them. So
there are several groups of queries, and what counts is the group that is served worst:

- ``stored``: stored vectors, each without itself;
- ``near`` and ``far``: stored vectors with noise, in the directions in which stored vectors differ from each other;
- ``between``: means of two stored vectors;
- ``pieces``: two to four words of stored texts, where there is a model that encodes them;
- ``recent``: queries that were searched for lately.

A hit that scores as high as the last of the true ones counts: of twins either one is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.memory.snapshot import Snapshot

KS = (1, 10, 100)
"""How many neighbors are asked for while measuring."""
SAMPLE = 200  # queries of a group
_LEAST = 30  # of a group that is given: fewer say nothing
_NOISE = {"near": 0.75, "far": 0.55}  # cosine to the stored vector
_TIE = 1e-6
_EASY_STEP = 2  # every second effort is tried
_QUANTILES = np.linspace(0, 0.95, 20)  # of the scores by which easy queries are told
_SAFE = 0.25  # of what may be missed, that is kept in hand
_WORTH = 0.8  # of the full effort, that trying less first must save for the usual query

Recall = dict[str, dict[int, float]]
"""Share of the true neighbors that are found, by group and by how many are asked for."""
Search = Callable[[FloatMatrix, int, int], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Rows and scores (n, k) of queries (n, dim), for k and an effort, best first; rows of -1 where there is nothing."""


class Efforts(Protocol):
    """What a kind of index may spend; see :class:`index.ann.index_types.AnnIndexType`."""

    @property
    def efforts(self) -> tuple[int, ...]: ...  # noqa: D102 - see there

    def least_effort(self, k: int) -> int: ...  # noqa: D102 - see there


class Easy(NamedTuple):
    """What is enough for a query that has near neighbors.

    :ivar effort: that is spent first.
    :ivar score: if the last of the neighbors that this finds is as near, no more is spent.
    """

    effort: int
    score: float


class Tuning(NamedTuple):
    """What a search is to spend, and what it finds for that.

    :ivar efforts: by each of ``KS``, in the measure of the kind of index.
    :ivar recall: measured at these, with what is spent on easy queries.
    :ivar easy: by each of ``KS`` for which trying less first is worth it.
    """

    efforts: dict[int, int]
    recall: Recall
    easy: dict[int, Easy] = {}  # noqa: RUF012 -- never changed

    @property
    def worst(self) -> float:
        """The lowest figure."""
        return min((share for shares in self.recall.values() for share in shares.values()), default=1.0)

    def effort(self, k: int) -> int:
        """For ``k`` neighbors: that of the next one that was measured; above the last, in proportion."""
        for measured in KS:
            if k <= measured:
                return self.efforts[measured]
        return -(-self.efforts[KS[-1]] * k // KS[-1])

    def easy_for(self, k: int) -> Easy | None:
        """For ``k`` neighbors: that of the next one that was measured; above the last, with effort in proportion."""
        for measured in KS:
            if k <= measured:
                return self.easy.get(measured)
        last = self.easy.get(KS[-1])
        return None if last is None else Easy(-(-last.effort * k // KS[-1]), last.score)

    def between(self, k: int) -> int:
        """As :meth:`effort`, but in proportion between two that were measured: where a depth is only looked through."""
        steps = [(0, 0), *((measured, self.efforts[measured]) for measured in KS)]
        for (below, low), (above, high) in pairwise(steps):
            if k <= above:
                return low + -(-(high - low) * (k - below) // (above - below))
        return self.effort(k)


class _Group(NamedTuple):
    """Queries, the row that each one is itself (-1 for none), and the scores of the true neighbors, best first."""

    queries: FloatMatrix
    own: NDArray[np.int64]
    scores: NDArray[np.float32]


def tune(
    search: Search,
    snapshot: Snapshot,
    given: Mapping[str, FloatMatrix],
    efforts: Efforts,
    recall: float,
    *,
    easier: bool = True,
) -> Tuning:
    """The least effort for each of ``KS`` by which every group has the recall, or the most there is.

    Most queries need less: those whose neighbors are near. So a smaller effort is looked for that may be tried first,
    and the score by which one knows that it was enough, such that every group keeps its recall.

    :param search: through the index, which has all rows of the snapshot that are alive.
    :param given: groups of unit vectors, beside those that are made of stored ones.
    :param efforts: that there are.
    :param easier: whether to look for the smaller effort: a search must then know its scores.
    """
    groups = _grouped(snapshot, _queries(snapshot, given))
    chosen: dict[int, int] = {}
    easy: dict[int, Easy] = {}
    measured: Recall = {name: {} for name in groups}
    least = 0
    for k in KS:
        steps = sorted({max(effort, efforts.least_effort(k)) for effort in efforts.efforts})
        step = next((at for at, effort in enumerate(steps) if effort >= least), len(steps) - 1)
        pending = list(groups)
        while True:
            pending = [name for name in pending if _tried(search, groups[name], k, steps[step]).recall < recall]
            if not pending or step == len(steps) - 1:
                break
            step += 1
        chosen[k] = least = steps[step]
        full = {name: _tried(search, group, k, chosen[k]) for name, group in groups.items()}
        tried = steps[:step:_EASY_STEP] if easier else []
        kept, shares = _easier(search, groups, k, tried, full, recall)
        if kept is not None:
            easy[k] = kept
        for name, share in shares.items():
            measured[name][k] = round(share, 4)
    return Tuning(chosen, measured, easy)


def _easier(
    search: Search,
    groups: Mapping[str, _Group],
    k: int,
    efforts: Sequence[int],
    full: Mapping[str, _Tried],
    recall: float,
) -> tuple[Easy | None, dict[str, float]]:
    """What costs least for the queries that come most, if it costs less than the full effort; the recall with it."""
    usual = "recent" if "recent" in groups else "near"
    best, shares = None, {name: tried.recall for name, tried in full.items()}
    # many pairs of an effort and a score are tried: the best one looks better than it is
    safe = recall + _SAFE * (1 - recall)
    least = _WORTH * full[usual].effort
    for effort in efforts:
        if effort >= least:
            break
        first = {name: _tried(search, group, k, effort) for name, group in groups.items()}
        for score in np.quantile(np.concatenate([tried.last for tried in first.values()]), _QUANTILES).tolist():
            again = {name: tried.last < score for name, tried in first.items()}
            cost = effort + float(again[usual].mean()) * full[usual].effort
            if cost >= least:
                continue
            mixed = {name: float(np.where(again[name], full[name].hits, first[name].hits).mean()) for name in groups}
            if all(mixed[name] >= min(safe, full[name].recall) for name in groups):
                best, least, shares = Easy(effort, float(score)), cost, mixed
    return best, shares


def _queries(
    snapshot: Snapshot, given: Mapping[str, FloatMatrix]
) -> dict[str, tuple[FloatMatrix, NDArray[np.int64] | None]]:
    """Queries of each group, and of stored ones their positions."""
    generator = np.random.default_rng(0)
    alive = np.flatnonzero(snapshot.alive)

    def some() -> NDArray[np.int64]:
        return generator.choice(alive, size=min(SAMPLE, len(alive)), replace=False)

    own = some()
    made: dict[str, tuple[FloatMatrix, NDArray[np.int64] | None]] = {"stored": (snapshot.vectors_at(own), own)}
    for name, cosine in _NOISE.items():
        vectors, noise = snapshot.vectors_at(some()), snapshot.vectors_at(some()) - snapshot.vectors_at(some())
        made[name] = (turned(vectors, noise, cosine), None)
    made["between"] = (_unit(snapshot.vectors_at(some()) + snapshot.vectors_at(some())), None)
    for name, queries in given.items():
        if len(queries) >= _LEAST:
            made[name] = (queries[-SAMPLE:], None)
    return made


def _grouped(
    snapshot: Snapshot, queries: Mapping[str, tuple[FloatMatrix, NDArray[np.int64] | None]]
) -> dict[str, _Group]:
    """With the true neighbors, found in one pass over all vectors."""
    every = snapshot.nearest(np.concatenate([vectors for vectors, _ in queries.values()]), KS[-1] + 1)
    groups, start = {}, 0
    for name, (vectors, positions) in queries.items():
        own = np.full(len(vectors), -1) if positions is None else snapshot.rows[positions]
        neighbors = every[start : start + len(vectors)]
        start += len(vectors)
        scores = [ranked[rows != row][: KS[-1]] for row, (rows, ranked) in zip(own.tolist(), neighbors, strict=True)]
        groups[name] = _Group(vectors, own, np.stack(scores))
    return groups


class _Tried(NamedTuple):
    """A group at an effort: for each query the share of the true neighbors, and the score of the last hit."""

    effort: int
    hits: NDArray[np.float64]
    last: NDArray[np.float64]

    @property
    def recall(self) -> float:
        """Mean of the shares."""
        return float(self.hits.mean())


def _tried(search: Search, group: _Group, k: int, effort: int) -> _Tried:
    count = min(k, group.scores.shape[1])
    if not count:
        return _Tried(effort, np.ones(len(group.own)), np.full(len(group.own), -1.0))
    alone = bool((group.own >= 0).any())  # each must find itself too, which counts for nothing
    rows, scores = search(group.queries, k + alone, effort)
    near = (scores >= group.scores[:, count - 1 : count] - _TIE) & (rows >= 0) & (rows != group.own[:, None])
    last = np.where(rows[:, -1] >= 0, scores[:, -1], -1.0) if rows.shape[1] >= k else np.full(len(rows), -1.0)
    return _Tried(effort, np.minimum(near.sum(axis=1), count) / count, last)


def turned(vectors: FloatMatrix, noise: FloatMatrix, cosine: float) -> FloatMatrix:
    """Unit vectors at a cosine to some (n, dim), each in the direction of its noise (n, dim)."""
    noise = _unit(noise)
    across = _unit(noise - np.einsum("ij,ij->i", noise, vectors)[:, None] * vectors)
    return _unit(cosine * vectors + (1 - cosine**2) ** 0.5 * across)


def _unit(vectors: FloatMatrix) -> FloatMatrix:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
