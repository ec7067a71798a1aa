"""Quality of probabilities: calibration error, risk and coverage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BINS = 15


class ReliabilityBin(NamedTuple):
    """Texts whose best label had a probability between two bounds.

    :ivar confidence: their mean probability; :ivar accuracy: the share of them that was right; :ivar texts: how many.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    texts: int


class RiskAtCoverage(NamedTuple):
    """The share of errors among the answers, where the surest share of the texts is answered."""

    coverage: float
    risk: float
    threshold: float


def reliability(confidences: NDArray[np.floating], right: NDArray[np.bool_], bins: int = _BINS) -> list[ReliabilityBin]:
    """Bins of equal width that hold texts, in ascending order.

    :param confidences: probability of the best label, shape (n,).
    :param right: whether it is the true one, shape (n,).
    """
    bin_of = np.clip((np.asarray(confidences) * bins).astype(int), 0, bins - 1)
    bins_ = []
    for number in range(bins):
        inside = bin_of == number
        if inside.any():
            mean, share = float(confidences[inside].mean()), float(right[inside].mean())
            bins_.append(ReliabilityBin(number / bins, (number + 1) / bins, mean, share, int(inside.sum())))
    return bins_


def expected_calibration_error(confidences: NDArray[np.floating], right: NDArray[np.bool_], bins: int = _BINS) -> float:
    """Mean distance of confidence and accuracy over bins of equal width (Naeini et al., AAAI 2015), in [0, 1]."""
    rows = reliability(confidences, right, bins)
    return sum(row.texts * abs(row.confidence - row.accuracy) for row in rows) / max(1, len(right))


def risk_coverage(
    confidences: NDArray[np.floating], right: NDArray[np.bool_], points: int = 100
) -> list[RiskAtCoverage]:
    """The curve of errors among answers from the surest text on (El-Yaniv & Wiener, JMLR 2010)."""
    order = np.argsort(-confidences, kind="stable")
    wrong = np.cumsum(~right[order])
    counts = np.unique(np.linspace(1, len(order), min(points, len(order))).astype(int))
    return [
        RiskAtCoverage(m / len(order), float(wrong[m - 1] / m), float(confidences[order[m - 1]]))
        for m in counts.tolist()
    ]


def log_loss(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """Mean of minus the log-probability of the true labels, probabilities (n, n_labels) not below 1e-12."""
    true = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(true, 1e-12)).mean())
