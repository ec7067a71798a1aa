"""The pipeline ``fit_head``: fitted, calibrated, with OOD detection and a risk guarantee."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from encoder_tools.errors import InputError
from heads.estimators.base import ClassifierHead
from heads.estimators.linear import LinearHead
from heads.selection.calibrator import choose_calibration
from heads.selection.folds import within_class
from heads.selection.ood_method import FitScores, Scores, choose_ood_method
from heads.serving.abstention import Abstention, answer_at_least, keep_errors_below
from heads.serving.calibration import Calibration
from heads.serving.fitted_head import FittedHead

_FOLDS = 3
_MOST_CALIBRATED = 6000
_MOST_SCORES = 2 * 10**7  # of which a calibration is chosen


@dataclass(frozen=True)
class RiskGuarantee:
    """What a head should be sure of.

    :ivar max_error_rate: greatest share of wrong answers among its answers; it gives none where it is not sure.
    :ivar min_coverage: least share of the texts that it answers, the surest.
    :ivar confidence: how sure the guarantee is, over the draw of the held-out examples; None: on average.
    :ivar held_out: share of the examples that is held out to keep it, where no others are given.
    """

    max_error_rate: float | None = None
    min_coverage: float | None = None
    confidence: float | None = 0.9
    held_out: float = 0.2

    @property
    def required(self) -> bool:
        """Whether anything is guaranteed."""
        return self.max_error_rate is not None or self.min_coverage is not None


NO_GUARANTEE = RiskGuarantee()


class Examples(NamedTuple):
    """Vectors (n, dim) and one label for each; labels may be unknown to a head that is tested with them."""

    vectors: NDArray[Any]
    labels: NDArray[Any]


class FitResult(NamedTuple):
    """A head, and what was found on the way.

    :ivar head: to be saved and served.
    :ivar n_train: examples it was fitted on; the others were held out.
    :ivar scope_auroc: of the OOD scores that were tried, on texts that were held out.
    """

    head: FittedHead
    n_train: int
    scope_auroc: dict[str, float]


def fit_head(
    estimator: ClassifierHead,
    train: Examples,
    *,
    guarantee: RiskGuarantee = NO_GUARANTEE,
    held_out: Examples | None = None,
    outside: NDArray[Any] | None = None,
    scope: bool = True,
    temperature: float | None = None,
    fingerprint: str | None = None,
    seed: int = 0,
) -> FitResult:
    """Fit, calibrate, and set the thresholds.

    Probabilities are calibrated by predictions for examples that the head was not fitted on, in three folds of
    ``train``. Only then are the examples held out looked at, so that the guarantee holds for texts drawn like them.

    :param estimator: a classifier that has ``to_fitted``; it is cloned.
    :param held_out: examples for the guarantee; None takes a share of ``train``, of every class.
    :param outside: vectors of texts out of scope, shape (m, dim).
    :param scope: whether the head should detect texts that are out of scope; where too few examples can be held out to
        set a threshold by, it does not.
    :param temperature: what to multiply the scores by, of a linear head in place of the temperature that it found
        itself, where that is known; None finds the calibration. It must be given where the model itself was trained on
        the examples: on vectors that it has learned, nothing is held out.
    :param fingerprint: of the model that made the vectors.
    :raises InputError: for wrong input, or if a guarantee cannot be kept.

    Example:
        >>> import numpy as np
        >>> from heads import Examples, LinearHead, RiskGuarantee, fit_head
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat(["a", "b"], 200)
        >>> vectors = rng.normal(size=(400, 8)).astype(np.float32) + 3 * (labels == "a")[:, None]
        >>> guarantee = RiskGuarantee(max_error_rate=0.2)
        >>> result = fit_head(LinearHead(), Examples(vectors, labels), guarantee=guarantee)
        >>> result.head.labels, result.head.abstention.level
        (('a', 'b'), 0.2)
    """
    rng = np.random.RandomState(seed)
    if guarantee.required and held_out is None:
        train, held_out = split(train, guarantee.held_out, rng)
    model = clone(estimator).fit(train.vectors, train.labels)
    fitted: FittedHead = model.to_fitted(fingerprint=fingerprint)
    targets = np.searchsorted(model.classes_, train.labels)
    if temperature is None:
        calibration = _calibrated(_with_settings(estimator, model), model, train.vectors, targets, rng)
    else:
        own = model.temperature_ if isinstance(model, LinearHead) else 1.0
        calibration = Calibration("temperature", temperature / own)
    fitted = replace(fitted, calibration=calibration)
    if guarantee.required and held_out is not None:
        fitted = replace(fitted, abstention=abstention_of(fitted, held_out, guarantee))
    if not scope:
        return FitResult(fitted, len(targets), {})
    choice = choose_ood_method(train.vectors, targets, _scores(model), outside=outside, rng=rng)
    return FitResult(replace(fitted, scope=choice.scope), len(targets), choice.auroc)


def abstention_of(head: FittedHead, held_out: Examples, guarantee: RiskGuarantee) -> Abstention:
    """The threshold on ``head``'s probabilities that keeps a guarantee.

    :raises InputError: if both guarantees are asked for, or the one cannot be kept.
    """
    if guarantee.max_error_rate is not None and guarantee.min_coverage is not None:
        raise InputError("Found two guarantees, expected one: at most some errors, or at least some answers.")
    probabilities = head.predict_proba(held_out.vectors)
    confidences = probabilities.max(axis=1)
    if guarantee.max_error_rate is not None:
        right = np.asarray(head.labels, dtype=object)[probabilities.argmax(axis=1)] == held_out.labels
        return keep_errors_below(
            guarantee.max_error_rate, confidences, right.astype(bool), confidence=guarantee.confidence
        )
    return answer_at_least(float(guarantee.min_coverage or 0), confidences, confidence=guarantee.confidence)


def split(examples: Examples, share: float, rng: np.random.RandomState) -> tuple[Examples, Examples]:
    """What stays and what is held out: about ``share`` of every class, which keeps one example at least.

    :raises InputError: if ``share`` is not between 0 and 1, or nothing would be held out.
    """
    if not 0 < share < 1:
        raise InputError(f"The share to hold out is {share!r}, expected a number between 0 and 1.")
    order = rng.permutation(len(examples.labels))
    _, targets = np.unique(examples.labels[order], return_inverse=True)
    order = order[np.argsort(targets, kind="stable")]
    sizes = np.bincount(targets)
    ends = np.repeat(np.cumsum(sizes), sizes)
    size = np.repeat(sizes, sizes)
    # Rows sorted by class lie in runs. An example is held out if its position, counted from the end of its run as a
    # share of the run, is below the share that is wanted; the first of a run is always kept.
    # Positions from a class's end, with a random start: classes of three lose one in some draws and none in others.
    share_of_class = (ends - np.arange(len(order)) - 1 + rng.random_sample(len(sizes)).repeat(sizes)) / size
    held = (share_of_class < share) & (np.arange(len(order)) > ends - size)
    if not held.any():
        raise InputError("No class has two examples, so that none can be held out. Give more, or others to hold out.")
    kept, out = np.sort(order[~held]), np.sort(order[held])
    return Examples(examples.vectors[kept], examples.labels[kept]), Examples(
        examples.vectors[out], examples.labels[out]
    )


def out_of_fold(
    estimator: ClassifierHead,
    vectors: NDArray[Any],
    targets: NDArray[np.intp],
    rng: np.random.RandomState,
    *,
    most: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Scores (m, n_classes) of examples by heads that were not fitted on them, and which examples those are (m,).

    An example that is alone in its class is in none: without it the class would not be known.

    :param most: how many scores to give, about; None gives them of all examples.
    """
    sizes = np.bincount(targets)
    fold = np.where(sizes[targets] > 1, within_class(targets, rng) % _FOLDS, -1)
    scores, which = [], []
    for number in range(_FOLDS):
        held = np.flatnonzero(fold == number)
        if len(held):
            model = clone(estimator).fit(vectors[fold != number], targets[fold != number])
            held = held if most is None else rng.permutation(held)[: -(-most // _FOLDS)]
            scores.append(model.to_fitted().decision_function(vectors[held]))
            which.append(held)
    n_classes = len(sizes)
    if not which:
        return np.zeros((0, n_classes), np.float32), np.zeros(0, np.intp)
    return np.concatenate(scores), np.concatenate(which)


def _with_settings(estimator: ClassifierHead, model: ClassifierHead) -> ClassifierHead:
    """The estimator for folds: what the fit on all examples chose is not chosen again."""
    if isinstance(model, LinearHead):
        return clone(estimator).set_params(C=model.C_)  # type: ignore[no-any-return]
    return estimator


def _calibrated(
    estimator: ClassifierHead,
    model: ClassifierHead,
    vectors: NDArray[Any],
    targets: NDArray[np.intp],
    rng: np.random.RandomState,
) -> Calibration:
    most = max(1, min(_MOST_CALIBRATED, _MOST_SCORES // len(model.classes_)))
    some = np.sort(rng.permutation(len(targets))[:most])
    known, numbers = np.unique(targets[some], return_inverse=True)
    if len(known) < len(model.classes_):  # a class was left out of the sample
        some, numbers = np.arange(len(targets)), targets
    scores, which = out_of_fold(estimator, vectors[some], numbers, rng, most=most)
    if not len(which):
        return Calibration()
    if isinstance(model, LinearHead):
        scores = np.float32(model.temperature_) * scores  # a given C has none, the model's has
    return choose_calibration(scores, numbers[which], rng)


def _scores(model: ClassifierHead) -> FitScores | None:
    """How the head's scores are made again on other examples; None where they say nothing of ood_score."""
    if not isinstance(model, LinearHead):
        return None
    strength, temperature = model.C_, np.float32(model.temperature_)

    def fit(vectors: NDArray[Any], targets: NDArray[np.intp]) -> Scores:
        fitted = LinearHead(C=strength).fit(vectors, targets).to_fitted()
        return lambda tested: temperature * fitted.decision_function(tested)

    return fit
