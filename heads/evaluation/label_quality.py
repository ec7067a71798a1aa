"""Data quality: labels that look wrong, near-duplicates with different labels, and what to label next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.vectors import unit_rows
from heads.estimators.base import ClassifierHead
from heads.estimators.pipeline import out_of_fold
from heads.selection.regularization import fit_temperature
from heads.serving.arrays import softmax
from heads.serving.fitted_head import FittedHead, Label

_ALIKE = 0.95
_MOST_DUPLICATES = 100
_MOST_MAPPED = 2000
_MOST_COSINES = 2**24  # held at a time
_CANDIDATES = 20


class Suspect(NamedTuple):
    """An example whose label a head that was not fitted on it finds improbable.

    :ivar place: among the examples, from 0 on.
    :ivar probability: of its own label; ``other`` is the most probable one.
    """

    place: int
    label: Label
    probability: float
    other: Label
    other_probability: float


class Duplicate(NamedTuple):
    """Two examples of nearly equal vectors and different labels."""

    first: int
    second: int
    cosine: float


class Next(NamedTuple):
    """A text without a label that is worth one."""

    place: int
    best: Label
    probability: float
    second: Label


class Point(NamedTuple):
    """An example on the map."""

    x: float
    y: float
    label: int
    place: int


@dataclass(frozen=True)
class ExamplesReport:
    """What was found.

    :ivar suspects: the most suspicious first, all examples that were judged.
    :ivar duplicates: the nearest first, at most 100.
    :ivar following: what to label next, in this order; empty if there is nothing to choose from.
    :ivar points: at most 2,000 examples in the plane that spreads the class means most.
    """

    labels: tuple[Label, ...]
    suspects: list[Suspect]
    duplicates: list[Duplicate]
    following: list[Next]
    points: list[Point]


def examine(
    estimator: ClassifierHead,
    vectors: NDArray[Any],
    labels: NDArray[Any],
    *,
    head: FittedHead | None = None,
    pool: NDArray[Any] | None = None,
    following: int = 50,
    seed: int = 0,
) -> ExamplesReport:
    """Look at labeled vectors (n, dim), each judged by heads that were not fitted on it.

    :param estimator: a classifier; it is cloned.
    :param head: that chooses from ``pool``.
    :param pool: vectors (m, dim) of texts without labels.
    :param following: how many of them to choose.
    """
    rng = np.random.RandomState(seed)
    classes, targets = np.unique(labels, return_inverse=True)
    names = tuple(classes.tolist())
    scores, which = out_of_fold(estimator, vectors, targets, rng)
    unit = unit_rows(np.asarray(vectors, dtype=np.float32))
    chosen = [] if head is None or pool is None else next_to_label(head, pool, following)
    return ExamplesReport(
        names,
        _suspects(names, scores, which, targets),
        _duplicates(unit, targets),
        chosen,
        _points(unit, targets, rng),
    )


def next_to_label(head: FittedHead, pool: NDArray[Any], n: int) -> list[Next]:
    """The ``n`` texts of least margin between the two best labels, spread out: no two of the same kind.

    Of the texts of least margin, twenty times ``n``, each next one is the farthest from those chosen, weighed by how
    small its margin is (Zhdanov 2019; k-center of Sener & Savarese, ICLR 2018).
    """
    probabilities = head.predict_proba(pool)
    best_two = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    shares = np.take_along_axis(probabilities, best_two, axis=1)
    margins = shares[:, 0] - shares[:, 1]
    candidates = np.argsort(margins, kind="stable")[: _CANDIDATES * n]
    unit = unit_rows(np.asarray(pool, dtype=np.float32)[candidates])
    distance = np.ones(len(candidates), dtype=np.float32)
    chosen: list[int] = []
    for _ in range(min(n, len(candidates))):
        worth = distance * (1 - margins[candidates])
        worth[chosen] = -1
        chosen.append(int(worth.argmax()))
        distance = np.minimum(distance, 1 - unit @ unit[chosen[-1]])
    return [
        Next(int(candidates[c]), head.labels[a], float(shares[candidates[c], 0]), head.labels[b])
        for c in chosen
        for a, b in [best_two[candidates[c]].tolist()]
    ]


def _suspects(
    names: tuple[Label, ...], scores: NDArray[np.float32], which: NDArray[np.intp], targets: NDArray[np.intp]
) -> list[Suspect]:
    """By how improbable the given label is (self-confidence: Northcutt et al., JAIR 2021), the least probable first."""
    if not len(which):
        return []
    truth = targets[which]
    probabilities = softmax(fit_temperature(scores, truth)[0] * scores)
    own = probabilities[np.arange(len(truth)), truth]
    others = probabilities.copy()
    others[np.arange(len(truth)), truth] = -1
    best = others.argmax(axis=1)
    margin = own - others[np.arange(len(truth)), best]
    return [
        Suspect(int(which[i]), names[truth[i]], float(own[i]), names[best[i]], float(others[i, best[i]]))
        for i in np.argsort(margin, kind="stable")
    ]


def _duplicates(unit: NDArray[np.float32], targets: NDArray[np.intp]) -> list[Duplicate]:
    duplicates: list[Duplicate] = []
    step = max(1, _MOST_COSINES // max(1, len(unit)))
    for start in range(0, len(unit), step):
        cosines = unit[start : start + step] @ unit.T
        rows, columns = np.nonzero(cosines >= _ALIKE)
        apart = (start + rows < columns) & (targets[start + rows] != targets[columns])
        rows, columns = rows[apart], columns[apart]
        near = cosines[rows, columns]
        # a thousand equal texts are half a million pairs
        best = np.argsort(-near, kind="stable")[:_MOST_DUPLICATES]
        duplicates += [Duplicate(start + int(rows[i]), int(columns[i]), min(1.0, float(near[i]))) for i in best]
        duplicates = sorted(duplicates, key=lambda pair: -pair.cosine)[:_MOST_DUPLICATES]
    return duplicates


def _points(unit: NDArray[np.float32], targets: NDArray[np.intp], rng: np.random.RandomState) -> list[Point]:
    """The two directions in which the class means differ most (those of PCA over the means), or of all, for two."""
    sizes = np.bincount(targets)
    means = np.zeros((len(sizes), unit.shape[1]))
    np.add.at(means, targets, unit)
    means /= sizes[:, None]
    spread = means - means.mean(axis=0) if len(sizes) > 2 else unit - unit.mean(axis=0)
    _, _, axes = np.linalg.svd(spread, full_matrices=False)
    some = np.sort(rng.permutation(len(unit))[:_MOST_MAPPED])
    plane = unit[some] @ axes[:2].T
    if plane.shape[1] < 2:
        plane = np.column_stack([plane, np.zeros(len(plane))])
    return [Point(float(x), float(y), int(targets[row]), int(row)) for (x, y), row in zip(plane, some, strict=True)]
