"""One ranking out of two: by meaning and by words.

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


def fuse(rankings: Mapping[str, Ranking], how: Fusion, weights: Mapping[str, float]) -> list[Fused]:
    """Rows of all rankings, best first; of equal ones the older row.

    :param rankings: by name.
    :param weights: of each name.
    """
    parts: dict[int, list[Part]] = {}
    scores: dict[int, float] = {}
    for name, (rows, found) in rankings.items():
        shares = 1 / (_K + 1 + np.arange(len(rows))) if how == "rrf" else _to_unit(found)
        for place, (row, score, share) in enumerate(zip(rows.tolist(), found.tolist(), shares.tolist(), strict=True)):
            parts.setdefault(row, []).append(Part(name, place + 1, score))
            scores[row] = scores.get(row, 0.0) + weights[name] * share
    order = sorted(scores, key=lambda row: (-scores[row], row))
    return [Fused(row, scores[row], tuple(parts[row])) for row in order]


def _to_unit(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scores between 0, the lowest, and 1, the highest; all 1 if they are equal."""
    if not len(scores) or scores[0] == scores[-1]:
        return np.ones(len(scores))
    return np.asarray((scores - scores[-1]) / (scores[0] - scores[-1]))
