"""The linear head: multinomial logistic regression on an encoder's vectors, as a scikit-learn classifier."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state

from encoder_tools.errors import InputError
from heads.estimators.base import ClassifierHead
from heads.selection.regularization import as_logits, check_size, choose_c, few_threads
from heads.serving.fitted_head import FittedHead

LONG_FIT = 5 * 10**7
"""Scores of a fit (examples times classes) from which it takes an hour or so."""


class LinearHead(ClassifierHead):
    """Multinomial logistic regression on texts or on their vectors.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.
    :param C: inverse regularization strength as in scikit-learn; None chooses it on held-out examples, and
        with it a temperature, by which the weights are multiplied so that probabilities are what they say.
    :param class_weight: None, "balanced", or a weight for each class, as in scikit-learn.
    :param max_iter: most iterations of the solver (L-BFGS) per fit.
    :param tol: stop when the gradient has shrunk to this share of its size at zero weights. Relative, because with many
        classes and unit vectors scikit-learn's absolute tolerance stops before the first step.
    :param random_state: seed of the split that chooses ``C``.

    Learnt: ``classes_`` (n_classes,), ``coef_`` (1 or n_classes, dim), ``intercept_``, ``C_``, ``temperature_``,
    ``n_iter_`` (iterations over all fits), ``n_features_in_`` and ``fingerprint_`` and ``space_`` (of the encoder, None
    without one).

    Example:
        >>> from encoder_tools import OnnxEncoder
        >>> from heads import LinearHead
        >>> head = LinearHead(OnnxEncoder()).fit(["card lost", "card gone", "the rate", "euro rate"], list("ccrr"))
        >>> str(head.predict(["I lost my card"])[0]), head.predict_proba(["I lost my card"]).shape
        ('c', (1, 2))
    """

    def __init__(
        self,
        encoder: Any = None,
        *,
        C: float | None = None,  # noqa: N803  scikit-learn's name
        class_weight: Any = None,
        max_iter: int = 300,
        tol: float = 0.01,
        random_state: Any = 0,
    ) -> None:
        self.encoder = encoder
        self.C = C
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def decision_function(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Scores of shape (n, n_classes), or (n,) for two classes, as scikit-learn has it.

        :raises InputError: for wrong input.
        :raises FingerprintError: if the encoder was replaced after ``fit``.
        """
        scores: NDArray[Any] = self._vectors(X) @ self.coef_.T + self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores

    def to_fitted(self, *, fingerprint: str | None = None) -> FittedHead:
        """What serving needs, without scikit-learn.

        :param fingerprint: of the model that made the vectors, where the head was fitted without an encoder.
        :raises InputError: if ``fingerprint`` contradicts the encoder's, or a label is neither text nor number.
        """
        mark = self._mark(fingerprint)
        weights = np.ascontiguousarray(as_logits(self.coef_.T).T)
        bias = as_logits(self.intercept_[None, :])[0]
        return FittedHead.linear(weights, bias, tuple(self.classes_.tolist()), mark, self.space_)

    def _check_parameters(self) -> None:
        if self.C is not None and not is_positive(self.C):
            raise InputError(f"C is {self.C!r}, expected a positive number, or None to choose it.")
        if not is_positive(self.tol):
            raise InputError(f"tol is {self.tol!r}, expected a positive number.")
        if not isinstance(self.max_iter, int | np.integer) or self.max_iter < 1:
            raise InputError(f"max_iter is {self.max_iter!r}, expected an integer of 1 or more.")

    def _learn(self, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> None:
        check_size(len(vectors), len(self.classes_))
        if len(vectors) * len(self.classes_) > LONG_FIT:
            warnings.warn(
                f"{len(self.classes_)} classes of {len(vectors)} examples take a LinearHead an hour or more; "
                "PrototypeHead and NeighborHead take seconds.",
                stacklevel=3,
            )
        with few_threads(vectors, len(self.classes_)):
            self._solve(vectors, targets, weights)

    def _solve(self, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> None:
        tol = self.tol * _gradient_at_zero(vectors, targets, weights)
        model = LogisticRegression(C=self.C, tol=tol, max_iter=self.max_iter, warm_start=True)
        self.C_, self.temperature_, n_iter = self.C, 1.0, 0
        if self.C is None:
            rng = check_random_state(self.random_state)
            chosen = choose_c(vectors, targets, weights=weights, tol=tol, max_iter=self.max_iter, rng=rng)
            self.C_, self.temperature_, n_iter, start = chosen
            model.set_params(C=self.C_)
            if start is not None:
                model.coef_, model.intercept_ = start
        model.fit(vectors, targets, sample_weight=weights)
        self.coef_, self.intercept_ = self.temperature_ * model.coef_, self.temperature_ * model.intercept_
        self.n_iter_ = n_iter + int(model.n_iter_.max())


def is_positive(value: Any) -> bool:
    """Whether ``value`` is a number above zero and finite."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(0 < value < np.inf)


def _gradient_at_zero(vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> float:
    """Largest entry of the mean log-loss's gradient where all weights are zero, which sets the scale of ``tol``."""
    shares = np.ones(len(targets)) if weights is None else weights
    shares = shares / shares.sum()
    n_classes = int(targets.max()) + 1
    sums = np.zeros((n_classes, vectors.shape[1]), dtype=np.float64)
    np.add.at(sums, targets, shares[:, None] * vectors)
    gradient = np.abs(sums - sums.sum(axis=0) / n_classes).max()
    return max(float(gradient), float(np.finfo(np.float32).eps))
