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
from index.memory.snapshot import Neighbors, Snapshot

KS = (1, 10, 100)
"""How many neighbors are asked for while measuring."""
SAMPLE = 200  # queries of a group
_LEAST = 30  # of a group that is given: fewer say nothing
_NOISE = {"near": 0.75, "far": 0.55}  # cosine to the stored vector
_TIE = 1e-6

Recall = dict[str, dict[int, float]]
"""Share of the true neighbors that are found, by group and by how many are asked for."""
Search = Callable[[FloatMatrix, int, int], Neighbors]
"""Rows and scores of a query (1, dim), for k and an effort, best first."""


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
    groups = _grouped(snapshot, _queries(snapshot, given))
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

    def vectors_of(positions: NDArray[np.int64]) -> FloatMatrix:
        order = np.argsort(positions)
        made = np.empty((len(positions), snapshot.vectors.part(0, 0).shape[1]), dtype=np.float32)
        made[order] = snapshot.vectors.take(positions[order])
        return made

    own = some()
    made: dict[str, tuple[FloatMatrix, NDArray[np.int64] | None]] = {"stored": (vectors_of(own), own)}
    for name, cosine in _NOISE.items():
        vectors, noise = vectors_of(some()), _unit(vectors_of(some()) - vectors_of(some()))
        across = _unit(noise - np.einsum("ij,ij->i", noise, vectors)[:, None] * vectors)
        made[name] = (_unit(cosine * vectors + (1 - cosine**2) ** 0.5 * across), None)
    made["between"] = (_unit(vectors_of(some()) + vectors_of(some())), None)
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


def _recall(search: Search, group: _Group, k: int, effort: int) -> float:
    count = min(k, group.scores.shape[1])
    if not count:
        return 1.0
    alone = bool((group.own >= 0).any())  # each must find itself too, which counts for nothing
    hits = 0
    for number, own in enumerate(group.own.tolist()):
        rows, scores = search(group.queries[number : number + 1], k + alone, effort)
        near = (scores >= group.scores[number, count - 1] - _TIE) & (rows != own)
        hits += min(int(np.count_nonzero(near)), count)
    return float(hits / (count * len(group.own)))


def _unit(vectors: FloatMatrix) -> FloatMatrix:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)
