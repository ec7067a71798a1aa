"""Measures of one ranking, as trec_eval has them.

Source: Järvelin and Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", 2002, for nDCG.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)


class Measures(NamedTuple):
    """Of one query.

    :ivar ndcg: of the first ten.
    :ivar recall: share of the relevant documents that is among all of the ranking.
    :ivar reciprocal_rank: 1 over the rank of the first relevant document; 0 if there is none.
    """

    ndcg: float
    recall: float
    reciprocal_rank: float


def measure(ranking: Sequence[Name], grades: Mapping[Name, int], k: int = 10) -> Measures:
    """Measure a ranking of documents, best first, by their grades; one at least is above 0."""
    gains = np.array([max(0, grades.get(document, 0)) for document in ranking], dtype=np.float64)
    ideal = np.array(sorted((grade for grade in grades.values() if grade > 0), reverse=True), dtype=np.float64)
    relevant = np.flatnonzero(gains)
    return Measures(
        _discounted(gains[:k]) / _discounted(ideal[:k]),
        len(relevant) / len(ideal),
        1.0 / (relevant[0] + 1) if len(relevant) else 0.0,
    )


def _discounted(gains: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
