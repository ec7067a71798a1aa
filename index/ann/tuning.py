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

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.snapshot import Snapshot

KS = (1, 10, 100)
"""How many neighbors are asked for while measuring."""
SAMPLE = 200  # queries of a group
_LEAST = 30  # of a group that is given: fewer say nothing
_NOISE = {"near": 0.75, "far": 0.55}  # cosine to the stored vector
_TIE = 1e-6

Recall = dict[str, dict[int, float]]
"""Share of the true neighbors that are found, by group and by how many are asked for."""
Search = Callable[[FloatMatrix, int, int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""Scores and rows (n, k) of queries (n, dim), for k and an effort; rows of -1 where there is nothing."""


class Tuning(NamedTuple):
    """What a search is to spend, and what it finds for that.

    :ivar efforts: by each of ``KS``, in the measure of the kind of index.
    :ivar recall: measured at these.
    """

    efforts: dict[int, int]
    recall: Recall

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
    search: Search, snapshot: Snapshot, given: Mapping[str, FloatMatrix], efforts: tuple[int, ...], recall: float
) -> Tuning:
    """The least effort for each of ``KS`` by which every group has the recall, or the most there is.

    :param search: through the index, which has all rows of the snapshot that are alive.
    :param given: groups of unit vectors, beside those that are made of stored ones.
    """
    groups = {name: _grouped(snapshot, *queries) for name, queries in _queries(snapshot, given).items()}
    chosen: dict[int, int] = {}
    step = 0
    for k in KS:
        pending = list(groups)
        while True:
            pending = [name for name in pending if _recall(search, groups[name], k, efforts[step]) < recall]
            if not pending or step == len(efforts) - 1:
                break
            step += 1
        chosen[k] = efforts[step]
    measured = {name: {k: round(_recall(search, group, k, chosen[k]), 4) for k in KS} for name, group in groups.items()}
    return Tuning(chosen, measured)


def _queries(
    snapshot: Snapshot, given: Mapping[str, FloatMatrix]
) -> dict[str, tuple[FloatMatrix, NDArray[np.int64] | None]]:
    """Queries of each group, and of stored ones their positions."""
    generator = np.random.default_rng(0)
    alive = np.flatnonzero(snapshot.alive)

    def some() -> NDArray[np.int64]:
        return generator.choice(alive, size=min(SAMPLE, len(alive)), replace=False)

    own = some()
    made: dict[str, tuple[FloatMatrix, NDArray[np.int64] | None]] = {"stored": (snapshot.vectors[own], own)}
    for name, cosine in _NOISE.items():
        vectors, noise = snapshot.vectors[some()], _unit(snapshot.vectors[some()] - snapshot.vectors[some()])
        across = _unit(noise - np.einsum("ij,ij->i", noise, vectors)[:, None] * vectors)
        made[name] = (_unit(cosine * vectors + (1 - cosine**2) ** 0.5 * across), None)
    made["between"] = (_unit(snapshot.vectors[some()] + snapshot.vectors[some()]), None)
    for name, queries in given.items():
        if len(queries) >= _LEAST:
            made[name] = (queries[-SAMPLE:], None)
    return made


def _grouped(snapshot: Snapshot, queries: FloatMatrix, positions: NDArray[np.int64] | None) -> _Group:
    own = np.full(len(queries), -1) if positions is None else snapshot.rows[positions]
    scores = [
        ranked[rows != row][: KS[-1]]
        for row, (rows, ranked) in zip(own.tolist(), snapshot.nearest(queries, KS[-1] + 1), strict=True)
    ]
    return _Group(queries, own, np.stack(scores))


def _recall(search: Search, group: _Group, k: int, effort: int) -> float:
    count = min(k, group.scores.shape[1])
    if not count:
        return 1.0
    alone = bool((group.own >= 0).any())  # each must find itself too, which counts for nothing
    scores, rows = search(group.queries, k + alone, effort)
    hits = (scores >= group.scores[:, count - 1 : count] - _TIE) & (rows >= 0) & (rows != group.own[:, None])
    return float(np.minimum(hits.sum(axis=1), count).mean() / count)


def _unit(vectors: FloatMatrix) -> FloatMatrix:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
