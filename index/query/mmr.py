"""Diversification by maximal marginal relevance (MMR).

Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
Summaries", SIGIR 1998.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoder_tools.protocols import FloatMatrix
from index.query.fusion import Fused


def diversified(hits: Sequence[Fused], vectors: FloatMatrix, diversity: float, count: int) -> list[Fused]:
    """The ``count`` first by maximal marginal relevance, in the order they are chosen.

    :param hits: with cosines as scores, best first.
    :param vectors: theirs (n, dim).
    :param diversity: 0 leaves the order as it is; at 1 only being unlike those before counts.
    """
    if not hits:
        return []
    scores = np.array([hit.score for hit in hits])
    likest = np.full(len(hits), -np.inf)
    chosen = [0]  # nothing is before the first: it is the nearest
    while len(chosen) < min(count, len(hits)):
        likest = np.maximum(likest, vectors @ vectors[chosen[-1]])
        worth = (1 - diversity) * scores - diversity * likest
        worth[chosen] = -np.inf
        chosen.append(int(np.argmax(worth)))
    return [hits[position] for position in chosen]
