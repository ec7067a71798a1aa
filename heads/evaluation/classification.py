"""Figures of a fitted head on labeled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from encoder_tools.errors import InputError
from heads.metrics import (
    ReliabilityBin,
    RiskAtCoverage,
    expected_calibration_error,
    log_loss,
    reliability,
    risk_coverage,
)
from heads.serving.fitted_head import FittedHead, Label

_MOST_PAIRS = 30
_MOST_IN_MATRIX = 1000


class ClassFigures(NamedTuple):
    """Of one class, each a share in [0, 1]; ``texts`` is how many there were."""

    label: Label
    precision: float
    recall: float
    f1: float
    texts: int


class Confused(NamedTuple):
    """How often one label was given for another."""

    truth: Label
    given: Label
    texts: int


class Abstained(NamedTuple):
    """What the head's threshold does on these texts.

    :ivar answered: share of the texts.
    :ivar errors: share of the answers that are wrong; texts out of scope that are answered count as wrong.
    """

    guarantee: str
    level: float
    confidence: float | None
    answered: float
    errors: float


class InScope(NamedTuple):
    """What the head's test of scope does on these texts.

    :ivar auroc: the chance that a text out of scope is scored higher than one in scope; None without such texts.
    :ivar auroc_of_doubt: the same of one minus the greatest probability.
    :ivar accepted: share of the texts in scope that are taken as such.
    :ivar rejected: share of those out of scope that are found to be; None without such texts.
    """

    method: str
    auroc: float | None
    auroc_of_doubt: float | None
    accepted: float
    rejected: float | None


@dataclass(frozen=True)
class TestedOn:
    """What the figures are of."""

    texts: int
    out_of_scope: int
    leaked: int


@dataclass(frozen=True)
class Report:
    """Figures of a head, over the texts in scope where not said otherwise.

    :ivar confusion: how often (row: true label, column: given label) occurs, shape (n_classes, n_classes); empty
        where there are more than 1,000 classes.
    """

    labels: tuple[Label, ...]
    tested: TestedOn
    accuracy: float
    macro_f1: float
    log_loss: float
    calibration_error: float
    calibration: str
    classes: list[ClassFigures]
    confusion: list[list[int]]
    confused: list[Confused]
    reliability: list[ReliabilityBin]
    risk_coverage: list[RiskAtCoverage]
    abstention: Abstained | None
    scope: InScope | None


def evaluate(head: FittedHead, vectors: NDArray[Any], labels: Any, *, leaked: int = 0) -> Report:
    """Figures of ``head`` on vectors (n, dim) of texts with true labels (n,).

    Texts whose label the head does not know are out of scope: any answer is wrong.

    :param leaked: how many of the texts were among the head's examples, to be said in the report.
    :raises InputError: if the head gives no single label, or no text has a label that it knows.

    Example:
        >>> import numpy as np
        >>> from heads import LinearHead, evaluate_head
        >>> vectors, labels = np.eye(4, dtype=np.float32), np.array(list("aabb"))
        >>> evaluate_head(LinearHead().fit(vectors, labels).to_fitted(), vectors, labels).accuracy
        1.0
    """
    if head.link != "softmax":
        raise InputError("The head gives no single label, expected one that does. See evaluate_many, evaluate_numbers.")
    scores = head.decision_function(vectors)
    probabilities = head.probabilities(scores)
    column_of = {label: number for number, label in enumerate(head.labels)}
    targets = np.array([column_of.get(label, -1) for label in np.asarray(labels, dtype=object).tolist()])
    known = targets >= 0
    if not known.any():
        raise InputError(f"None of the labels is one of the head's ({', '.join(map(str, head.labels[:5]))}, ...).")
    shares, truth = probabilities[known], targets[known]
    given, confidences = shares.argmax(axis=1), shares.max(axis=1)
    right = given == truth
    classes = class_figures(head, truth, given)
    return Report(
        head.labels,
        TestedOn(len(targets), int((~known).sum()), leaked),
        float(right.mean()),
        float(np.mean([figures.f1 for figures in classes if figures.texts])),
        log_loss(shares, truth),
        expected_calibration_error(confidences, right),
        head.calibration.method,
        classes,
        _confusion(truth, given, len(head.labels)),
        _confused(head, truth, given),
        reliability(confidences, right),
        risk_coverage(confidences, right),
        _abstained(head, probabilities, targets),
        _in_scope(head, np.asarray(vectors, dtype=np.float32), scores, known),
    )


def class_figures(head: FittedHead, truth: NDArray[Any], given: NDArray[Any]) -> list[ClassFigures]:
    """Of every label.

    :param truth: label numbers (n,), or whether each label is true, shape (n, n_labels); ``given`` likewise.
    """
    numbers = np.arange(len(head.labels))
    columns = precision_recall_fscore_support(truth, given, labels=numbers, zero_division=0.0)
    rows = zip(head.labels, *(column.tolist() for column in columns), strict=True)
    return [ClassFigures(label, p, r, f, int(n)) for label, p, r, f, n in rows]


def _confusion(truth: NDArray[Any], given: NDArray[Any], n: int) -> list[list[int]]:
    if n > _MOST_IN_MATRIX:
        return []
    confusion = np.zeros((n, n), dtype=int)
    np.add.at(confusion, (truth, given), 1)
    rows: list[list[int]] = confusion.tolist()
    return rows


def _confused(head: FittedHead, truth: NDArray[Any], given: NDArray[Any]) -> list[Confused]:
    wrong = truth != given
    pairs, counts = np.unique(np.column_stack([truth[wrong], given[wrong]]), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    return [Confused(head.labels[pairs[i, 0]], head.labels[pairs[i, 1]], int(counts[i])) for i in order.tolist()]


def _abstained(head: FittedHead, probabilities: NDArray[Any], targets: NDArray[Any]) -> Abstained | None:
    kept = head.abstention
    if kept is None:
        return None
    answered = probabilities.max(axis=1) >= kept.below
    wrong = probabilities.argmax(axis=1) != targets
    errors = float(wrong[answered].mean()) if answered.any() else 0.0
    return Abstained(kept.guarantee, kept.level, kept.confidence, float(answered.mean()), errors)


def _in_scope(
    head: FittedHead, vectors: NDArray[np.float32], scores: NDArray[np.float32], known: NDArray[np.bool_]
) -> InScope | None:
    if head.scope is None:
        return None
    ood_scores = head.scope.ood_score(vectors, scores)
    rejected = ood_scores > head.scope.threshold
    accepted = float((~rejected[known]).mean())
    if known.all():
        return InScope(head.scope.name, None, None, accepted, None)
    doubt = 1 - head.probabilities(scores).max(axis=1)
    aurocs = float(roc_auc_score(~known, ood_scores)), float(roc_auc_score(~known, doubt))
    return InScope(head.scope.name, *aurocs, accepted, float(rejected[~known].mean()))
