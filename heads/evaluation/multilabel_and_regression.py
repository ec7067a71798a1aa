"""Figures of heads that give any number of labels, or a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, r2_score

from encoder_tools.errors import InputError
from heads.evaluation.classification import ClassFigures, Report, TestedOn, class_figures
from heads.labeled import as_numbers
from heads.serving.fitted_head import FittedHead, Label


@dataclass(frozen=True)
class ManyReport:
    """Figures of a multi-label head. Labels of the texts that it does not know count as missed.

    :ivar tested: ``out_of_scope`` is how many texts have none but such labels.
    :ivar micro_f1: over all decisions; ``micro_precision`` and ``micro_recall`` likewise.
    :ivar macro_f1: mean over the head's labels that occur.
    :ivar average_precision: area under precision and recall, mean over the head's labels that occur.
    :ivar exact: share of the texts with exactly the true labels.
    """

    labels: tuple[Label, ...]
    tested: TestedOn
    micro_f1: float
    micro_precision: float
    micro_recall: float
    macro_f1: float
    average_precision: float
    exact: float
    classes: list[ClassFigures]


@dataclass(frozen=True)
class NumberReport:
    """Figures of a regression.

    :ivar mean_absolute_error: ``root_mean_squared_error`` likewise, in the unit of the numbers.
    :ivar r2: share of the variance that is explained; None where all true numbers are the same.
    :ivar spearman: rank correlation; None where all numbers of either side are the same.
    """

    tested: TestedOn
    mean_absolute_error: float
    root_mean_squared_error: float
    r2: float | None
    spearman: float | None


AnyReport: TypeAlias = Report | ManyReport | NumberReport


def evaluate_many(head: FittedHead, vectors: NDArray[Any], labels: Any, *, leaked: int = 0) -> ManyReport:
    """Figures of a multi-label ``head`` on vectors (n, dim) of texts with lists of true labels.

    :raises InputError: if the head is of another kind, or no text has a label that it knows.
    """
    if head.link != "sigmoid" or head.thresholds is None:
        raise InputError("The head does not give any number of labels, expected one that does.")
    column_of = {label: number for number, label in enumerate(head.labels)}
    truth = np.zeros((len(labels), len(head.labels)), dtype=bool)
    unknown = np.zeros(len(labels), dtype=int)
    for number, row in enumerate(labels):
        for label in set(row):
            if label in column_of:
                truth[number, column_of[label]] = True
            else:
                unknown[number] += 1
    if not truth.any():
        raise InputError(f"None of the labels is one of the head's ({', '.join(map(str, head.labels[:5]))}, ...).")
    shares = head.predict_proba(vectors)
    given = shares >= head.thresholds
    hits, said, true = int((truth & given).sum()), int(given.sum()), int(truth.sum() + unknown.sum())
    classes = class_figures(head, truth, given)
    occurring = truth.any(axis=0)
    without_labels = int(((unknown > 0) & ~truth.any(axis=1)).sum())
    return ManyReport(
        head.labels,
        TestedOn(len(labels), without_labels, leaked),
        2 * hits / max(1, said + true),
        hits / max(1, said),
        hits / max(1, true),
        float(np.mean([figures.f1 for figures in classes if figures.texts])),
        float(average_precision_score(truth[:, occurring], shares[:, occurring], average="macro")),
        float((((truth == given).all(axis=1)) & (unknown == 0)).mean()),
        classes,
    )


def evaluate_numbers(head: FittedHead, vectors: NDArray[Any], numbers: Any, *, leaked: int = 0) -> NumberReport:
    """Figures of a regression ``head`` on vectors (n, dim) of texts with true numbers (n,).

    :raises InputError: if the head is of another kind, or something else than finite numbers is given.
    """
    if head.link != "identity":
        raise InputError("The head gives labels, expected one that gives a number.")
    truth = as_numbers(numbers)
    predicted = np.asarray(head.predict(vectors), dtype=np.float64)
    errors = predicted - truth
    ranked = len(truth) > 1 and np.ptp(truth) > 0
    return NumberReport(
        TestedOn(len(truth), 0, leaked),
        float(np.abs(errors).mean()),
        float(np.sqrt((errors**2).mean())),
        float(r2_score(truth, predicted)) if ranked else None,
        float(spearmanr(truth, predicted).statistic) if ranked and np.ptp(predicted) > 0 else None,
    )
