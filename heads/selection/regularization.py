"""Choice of the regularization strength and of the temperature, on held-out examples."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from encoder_tools.errors import InputError
from heads.selection.folds import within_class
from heads.serving.arrays import log_sum_exp

PATH = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Inverse strengths for unit vectors. With few labels accuracy hardly depends on them within a decade (0.2 points on
Banking77 and CLINC150 with eight a class); what they do to the probabilities is made good by the temperature."""
START = 100.0
"""Taken unless another is better by more than a standard error, and where nothing can be held out. With eight labels a
class of Banking77, CLINC150 and TREC it is as good as what LogisticRegressionCV chooses, within its noise."""
_LOOSE = 10.0  # the tolerance of a path with few examples, beside that of the last fit
_PATH_ITERATIONS = 60
_DEAR = 5e6  # multiplications per product from which a path with few examples is a loose one
_FOLDS = 3
_EXAMPLES_PER_FIT = 5000
_WORTH_THREADS = 2e8  # multiplications per product from which BLAS is better off with several threads
_MOST_SCORES = 2 * 10**8
# Chosen on Banking77, CLINC150, TREC, SST-2, AG News and SMS Spam with 2 to 16 labels per class (the shipped model,
# three seeds): the log-loss is then that of scikit-learn's LogisticRegression(C=100) or less, within 2 %; without, up
# to 3.8 times it.
_PRIOR = 30.0  # curvature of the prior of a temperature's logarithm, in that of one example's log-loss
_CERTAIN = 500.0  # examples from which a standard error is worth less than itself
_TEMPERATURES = (-4.0, 6.0)  # natural logarithms of what logits may be multiplied by


class Choice(NamedTuple):
    """What was chosen.

    :ivar C: inverse strength.
    :ivar temperature: what to multiply the logits of the last fit by: above 1 if they are too cautious.
    :ivar n_iter: the solver's iterations so far.
    :ivar start: coefficients (1 or n_classes, dim) and intercepts for the last fit to start from; None for zeros.
    """

    C: float
    temperature: float
    n_iter: int
    start: tuple[NDArray[Any], NDArray[Any]] | None


def choose_c(
    vectors: NDArray[Any],
    targets: NDArray[np.intp],
    *,
    weights: NDArray[Any] | None = None,
    tol: float,
    max_iter: int,
    rng: np.random.RandomState,
) -> Choice:
    """Pick C by held-out log-loss at its best temperature, going from :data:`START` for as long as it gets better.

    Regularization does two things: it decides which way the boundaries lie, and how far from uniform the probabilities
    are (the temperature). The second is undone here by one number (temperature scaling: Guo et al., ICML 2017, fitted
    on what was held out), so that C is chosen for the first. Every fold keeps one model that starts from its solution
    for a stronger one. Few examples are cross-validated in three folds, many (from 5,000 on) are measured on one
    third, as are other strengths than the first where the classes are many.

    :param vectors: shape (n, dim).
    :param targets: class numbers 0..n_classes-1 of shape (n,), each occurring.
    :param weights: of the examples, shape (n,); None weighs them alike.
    :param tol: gradient tolerance of the last fit; a path over few examples of many classes makes
        do with ten times that.
    """
    scale = float(np.einsum("ij,ij->i", vectors, vectors).mean()) or 1.0
    folds = list(_folds(targets, rng))
    if not folds:
        return Choice(START / scale, 1.0, 0, None)
    # Where examples are many for their classes, a loose tolerance would stop before the strength tells.
    dear = len(folds) == _FOLDS and vectors.size * (targets.max() + 1) > _DEAR
    if dear:
        tol, max_iter = tol * _LOOSE, min(max_iter, _PATH_ITERATIONS)
    path = _HeldOut(vectors, targets, weights, folds, tol, max_iter)
    position = PATH.index(START)
    some = 1 if dear else _FOLDS  # folds that tell whether another strength is worth it
    stronger = path.evaluate(PATH[position - 1] / scale, some)
    best = path.evaluate(PATH[position] / scale)
    path.usual = best.scale
    stronger, best = stronger.tempered(path.usual), best.tempered(path.usual)
    if stronger.beats(best):
        while position > 0 and stronger.beats(best):
            position, best = position - 1, stronger
            path.forget()  # from a weaker one's solution, its loose tolerance would not move at all
            stronger = path.evaluate(PATH[position - 1] / scale, some) if position else best
    elif best.beats(stronger):
        weaker = path.evaluate(PATH[position + 1] / scale, some)
        if weaker.beats(best):
            position, best = position + 1, weaker
    return Choice(PATH[position] / scale, best.temperature, path.n_iter, best.solution)


class _Judged(NamedTuple):
    """What one strength made of what was held out.

    :ivar logits: of what was held out, shape (n, n_classes), ``truth`` its class numbers and ``weights`` its weights.
    :ivar solution: coefficients and intercepts, the mean over the folds.
    :ivar temperature: the best one, ``losses`` at it.
    """

    logits: NDArray[Any]
    truth: NDArray[np.intp]
    weights: NDArray[Any]
    solution: tuple[NDArray[Any], NDArray[Any]]
    temperature: float = 1.0
    losses: NDArray[Any] = np.empty(0)

    @property
    def scale(self) -> float:
        """How far the logits of a vector are from each other."""
        return float(np.sqrt(np.mean((self.logits - self.logits.mean(axis=1, keepdims=True)) ** 2)))

    def tempered(self, scale: float) -> _Judged:
        """At its best temperature, which few examples hardly draw away from the one that gives logits a scale."""
        usual = scale / self.scale if scale > 0 and self.scale > 0 else 1.0
        temperature, _ = fit_temperature(self.logits, self.truth, self.weights, usual=usual)
        at = temperature * self.logits
        losses = log_sum_exp(at) - at[np.arange(len(self.truth)), self.truth]
        return self._replace(temperature=temperature, losses=losses)

    def beats(self, other: _Judged) -> bool:
        """Whether the mean loss is less, on the folds of both, and it is not by chance.

        Of few examples the difference must be a standard error of it; of many a small part of one is enough.
        """
        n = min(len(self.losses), len(other.losses))
        gains = other.losses[:n] - self.losses[:n]
        share = self.weights[:n] / max(float(self.weights[:n].sum()), 1e-12)
        mean = float(share @ gains)
        doubt = min(1.0, _CERTAIN / max(n, 1))
        return mean > doubt * float(np.sqrt((share**2) @ (gains - mean) ** 2))


class _HeldOut:
    """One model per fold, each of which starts from its last solution.

    :ivar usual: scale of logits that temperatures are drawn to; 0 draws them to 1.
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        targets: NDArray[np.intp],
        weights: NDArray[Any] | None,
        folds: list[NDArray[np.bool_]],
        tol: float,
        max_iter: int,
    ) -> None:
        self._vectors, self._targets, self._weights, self._folds = vectors, targets, weights, folds
        self._tol, self._max_iter = tol, max_iter
        self._held = np.concatenate([np.flatnonzero(fold) for fold in folds])
        self.n_iter, self.usual = 0, 0.0
        self.forget()

    def forget(self) -> None:
        """Start the next fits from zero."""
        settings = {"tol": self._tol, "max_iter": self._max_iter, "warm_start": True}
        self._models = [LogisticRegression(**settings) for _ in self._folds]

    def evaluate(self, strength: float, n_folds: int = _FOLDS) -> _Judged:
        """How good this inverse strength is on what was held out, in the first folds."""
        logits = []
        models = self._models[:n_folds]
        for model, fold in zip(models, self._folds, strict=False):
            weights = None if self._weights is None else self._weights[~fold]
            _fit_quietly(model.set_params(C=strength), self._vectors[~fold], self._targets[~fold], weights)
            self.n_iter += int(model.n_iter_.max())
            logits.append(as_logits(self._vectors[fold] @ model.coef_.T + model.intercept_))
        held = np.concatenate(logits)
        rows = self._held[: len(held)]
        truth = self._targets[rows]
        shares = np.ones(len(truth)) if self._weights is None else self._weights[rows]
        coef = np.mean([model.coef_ for model in models], axis=0)
        solution = coef, np.mean([m.intercept_ for m in models], axis=0)
        return _Judged(held, truth, shares, solution).tempered(self.usual)


def check_size(n: int, n_classes: int) -> None:
    """Refuse what would fill the memory long before it is fitted.

    :raises InputError: where the scores of the examples, which a fit holds several times over, are 1.6 GB or more.
    """
    if n * n_classes > _MOST_SCORES:
        raise InputError(
            f"{n} examples of {n_classes} classes need {8 * n * n_classes / 1e9:.0f} GB for their scores alone. Fit a "
            "PrototypeHead or NeighborHead (--estimator prototype, knn), which need none, or merge rare classes; or "
            "is the "
            "label another column?"
        )


def few_threads(vectors: NDArray[Any], n_classes: int) -> AbstractContextManager[Any]:
    """One BLAS thread where the products are small: waking the others takes five times as long as the product."""
    small = vectors.size * n_classes < _WORTH_THREADS
    return threadpool_limits(1, "blas") if small else nullcontext()


def fit_temperature(
    logits: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None = None, *, usual: float | None = None
) -> tuple[float, float]:
    """What to multiply logits (n, n_classes) by for the least mean log-loss, and that log-loss.

    Where ``weights`` are all zero, 1 and 0.

    :param usual: a factor that is likely beforehand: a normal prior of its logarithm around it, which a handful of
        examples does not outweigh. A few that are all right, or all wrong, would else ask for certainty, or for none.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    true = shifted[np.arange(len(targets)), targets]
    if weights is not None and not weights.sum() > 0:
        return 1.0, 0.0

    def loss(logarithm: float) -> float:
        factor = np.exp(logarithm)
        losses = np.log(np.exp(factor * shifted).sum(axis=1)) - factor * true
        return float(np.average(losses, weights=weights))

    def with_prior(logarithm: float) -> float:
        away = 0.0 if usual is None else logarithm - np.log(usual)
        return loss(logarithm) + _PRIOR * away**2 / 2 / len(targets)

    result = minimize_scalar(with_prior, bounds=_TEMPERATURES, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(result.x)), loss(float(result.x))


def as_logits(scores: NDArray[Any]) -> NDArray[Any]:
    """Scores (n, 1) of two classes as two columns whose softmax is their sigmoid; others as they are."""
    return np.concatenate([-scores / 2, scores / 2], axis=1) if scores.shape[1] == 1 else scores


def _fit_quietly(
    model: LogisticRegression, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None
) -> None:
    with warnings.catch_warnings():
        # The path only ranks strengths; the last fit says whether it converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(vectors, targets, sample_weight=weights)


def _folds(targets: NDArray[np.intp], rng: np.random.RandomState) -> Iterator[NDArray[np.bool_]]:
    """Masks of held-out examples, stratified; every class keeps one to train on, so a single one is never held."""
    sizes = np.bincount(targets)
    fold = np.where(sizes[targets] > 1, within_class(targets, rng) % _FOLDS, -1)
    for number in range(int(np.clip(_EXAMPLES_PER_FIT // len(targets), 1, _FOLDS))):
        if (fold == number).any():
            yield fold == number
