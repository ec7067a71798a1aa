"""Abstention: a threshold on the greatest probability with a risk guarantee, chosen on held-out examples.

Reading and applying one needs numpy only; choosing one imports scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError

_STARTS = 4
_GRID = 200


@dataclass(frozen=True)
class Abstention:
    """A text is answered if the probability of its best label is ``below`` or more.

    :param below: the threshold.
    :param guarantee: "errors": at most ``level`` of the answers are wrong; "answers": at least ``level`` of the texts
        are answered.
    :param confidence: how sure the guarantee is, over the draw of the held-out examples; None: on average over it.
    :param examples: how many held-out examples it rests on.
    """

    below: float
    guarantee: Literal["errors", "answers"]
    level: float
    confidence: float | None
    examples: int

    def __post_init__(self) -> None:
        if self.guarantee not in ("errors", "answers"):
            raise InputError(f"Promise {self.guarantee!r} is not known, expected errors or answers.")
        for name in ("below", "level", "confidence"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"The abstention's {name} is {value}, expected a share from 0 to 1.")


def keep_errors_below(
    level: float, confidences: NDArray[np.floating], right: NDArray[np.bool_], *, confidence: float | None = 0.9
) -> Abstention:
    """Answer as much as possible with at most ``level`` of the answers wrong.

    With ``confidence``, by learn-then-test (Angelopoulos et al. 2021): numbers of answers are tested in a fixed order,
    each by the exact binomial bound, from several starts that share the error. Without, by the conformal bound on the
    expected share, ``(wrong + 1) / (answered + 1) <= level`` (Angelopoulos et al., ICLR 2024; Jin & Candès, JMLR 2023).
    Both hold for texts drawn like the held-out ones, whatever the head.

    :param confidences: greatest probability of each held-out example, shape (n,).
    :param right: whether its label is the true one, shape (n,); false for texts that are out of scope.
    :raises InputError: if ``level`` is not between 0 and 1, or no threshold can be guaranteed with these examples.
    """
    _check_share(level, "The share of errors")
    order = np.argsort(-confidences, kind="stable")
    sorted_confidences = confidences[order]
    wrong = np.cumsum(~right[order], dtype=np.intp)
    last_of_ties = np.append(sorted_confidences[1:] < sorted_confidences[:-1], True)
    counts = np.flatnonzero(last_of_ties) + 1
    passing = _average(level, counts, wrong) if confidence is None else _sure(level, counts, wrong, confidence)
    if not passing:
        raise InputError(_cannot_guarantee(level, len(right), int(wrong[-1]), confidence))
    below = float(sorted_confidences[max(passing) - 1])
    return Abstention(_just_below(below), "errors", level, confidence, len(right))


def answer_at_least(level: float, confidences: NDArray[np.floating], *, confidence: float | None = 0.9) -> Abstention:
    """Answer at least ``level`` of texts like the held-out ones: the surest.

    A conformal quantile of the confidences: on average over the held-out examples, or, with ``confidence``, by the
    distribution of order statistics (a beta distribution).

    :param confidences: greatest probability of each held-out example, shape (n,).
    :raises InputError: if ``level`` is not between 0 and 1, or there are too few examples to guarantee it.
    """
    from scipy.stats import beta

    _check_share(level, "The share of answers")
    n = len(confidences)
    positions = np.arange(1, n + 1)  # the threshold at the i-th smallest leaves a share Beta(n + 1 - i, i) above it
    surely = (
        (n + 1 - positions) / (n + 1) if confidence is None else beta.ppf(1 - confidence, n + 1 - positions, positions)
    )
    good = np.flatnonzero(surely >= level)
    if not len(good):
        raise InputError(
            f"With {n} held-out examples no threshold answers {level:.1%} for sure. Pass more, or ask for less."
        )
    below = float(np.sort(confidences)[good[-1]])
    return Abstention(_just_below(below), "answers", level, confidence, n)


def _average(level: float, counts: NDArray[np.intp], wrong: NDArray[np.intp]) -> list[int]:
    return [int(m) for m in counts[(wrong[counts - 1] + 1) / (counts + 1) <= level]]


def _sure(level: float, counts: NDArray[np.intp], wrong: NDArray[np.intp], confidence: float) -> list[int]:
    """Numbers of answers that pass; the order and the starts depend on no label."""
    from scipy.stats import beta

    risk = (1 - confidence) / _STARTS
    fewest = np.ceil(np.log(risk) / np.log1p(-level))  # below, not even no error at all would pass
    tested = counts[counts >= fewest]
    if len(tested) > _GRID:
        tested = tested[np.linspace(0, len(tested) - 1, _GRID).astype(int)]
    k = wrong[tested - 1]
    bound = np.where(k < tested, beta.ppf(1 - risk, k + 1, np.maximum(tested - k, 1)), 1.0)  # Clopper & Pearson 1934
    passing: list[int] = []
    # Few answers are the surest but prove little, so that the starts lie closer together there.
    starts = np.searchsorted(tested, np.geomspace(fewest, len(wrong) + 1, _STARTS + 1)[:-1])
    for start in starts.tolist():
        for position in range(start, len(tested)):
            if bound[position] > level:
                break
            passing.append(int(tested[position]))
    return passing


def _cannot_guarantee(level: float, n: int, wrong: int, confidence: float | None) -> str:
    sure = "on average" if confidence is None else f"with confidence {confidence:.0%}"
    risk = 1.0 if confidence is None else (1 - confidence) / _STARTS
    needed = 1 / level if confidence is None else np.log(risk) / np.log1p(-level)
    return (
        f"With {n} held-out examples, {wrong} of them wrong, no threshold keeps errors at {level:.1%} of the answers "
        f"{sure}; {needed:.0f} sure answers without an error would. Pass more examples, or allow more errors."
    )


def _check_share(level: float, name: str) -> None:
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise InputError(f"{name} is {level!r}, expected a number between 0 and 1.")


def _just_below(value: float) -> float:
    """A threshold that the value itself meets, whatever was rounded on the way."""
    return max(0.0, float(np.nextafter(np.float32(value), np.float32(0))))
