"""Fusion of the dense and the lexical ranking.

Sources: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning
Methods", SIGIR 2009; weighted sums of scores brought to [0, 1], Bruch, Gai and Ingber, "An Analysis of Fusion Functions
for Hybrid Retrieval", 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from index.results import Part

Fusion: TypeAlias = Literal["rrf", "weighted"]
_K = 60  # of the paper

Ranking = tuple[NDArray[np.int64], NDArray[np.floating]]
"""Row numbers and scores, best first."""


class Fused(NamedTuple):
    """A row, its score, and where each part had it."""

    row: int
    score: float
    parts: tuple[Part, ...]


def fuse(dense: Ranking, lexical: Ranking, how: Fusion, weights: Mapping[str, float], count: int) -> list[Fused]:
    """The first ``count`` rows of both rankings as one, best first; of equal ones the older row.

    What only the search by words has keeps its order there, so that of it the first ``count`` are enough; the shares
    are those of the whole rankings. Where words weigh nothing, what only they have is left out.

    :param weights: of "dense" and "lexical".
    """
    parts: dict[int, list[Part]] = {}
    scores: dict[int, float] = {}
    for name, (rows, part_scores) in (("dense", dense), ("lexical", lexical)):
        shares = 1 / (_K + 1 + np.arange(len(rows))) if how == "rrf" else _to_unit(part_scores)
        chosen = np.arange(len(rows))
        if name == "lexical":
            first = count if weights[name] else 0
            chosen = np.flatnonzero((chosen < first) | np.isin(rows, dense[0]))
        columns = (chosen, rows[chosen], part_scores[chosen], shares[chosen])
        for rank, row, score, share in zip(*(column.tolist() for column in columns), strict=True):
            parts.setdefault(row, []).append(Part(name, rank + 1, score))
            scores[row] = scores.get(row, 0.0) + weights[name] * share
    order = sorted(scores, key=lambda row: (-scores[row], row))
    return [Fused(row, scores[row], tuple(parts[row])) for row in order]


def fused_with_remaining(head: list[Fused], more: list[Fused], how: Fusion, weight: float, depth: int) -> list[Fused]:
    """A fused ranking and all that it does not have, as one ranking.

    :param more: the others by their cosine; they are taken to follow the ``depth`` nearest that were fused.
    :param weight: of the part that they are of.
    """
    made = []
    for position, hit in enumerate(more):
        rank = depth + position + 1
        share = weight / (_K + rank) if how == "rrf" else 0.0
        made.append(Fused(hit.row, share, (Part("dense", rank, hit.score),)))
    return sorted([*head, *made], key=lambda hit: -hit.score)  # stable: of equal scores the head's come first


def _to_unit(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scores between 0, the lowest, and 1, the highest; all 1 if they are equal."""
    if not len(scores) or scores[0] == scores[-1]:
        return np.ones(len(scores))
    return np.asarray((scores - scores[-1]) / (scores[0] - scores[-1]))
