"""A number per text: ridge regression, its strength by leave-one-out in closed form."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.linear_model import RidgeCV
from sklearn.utils import assert_all_finite, column_or_1d

from encoder_tools.errors import InputError
from heads.estimators.base import HeadEstimator, merged
from heads.estimators.linear import is_positive
from heads.serving.fitted_head import FittedHead
from heads.serving.scorers import Linear
from heads.validation import as_input_error, checked_weights

_ALPHAS = tuple(10.0 ** (step / 2) for step in range(-8, 7))


class RegressionHead(RegressorMixin, HeadEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Ridge regression on texts or vectors.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.
    :param alpha: weight of the squared weights in the loss; None chooses it by leave-one-out (RidgeCV's closed form).

    Learnt: ``coef_`` (dim,), ``intercept_``, ``alpha_``, ``n_features_in_``, ``fingerprint_``, ``space_``.

    Example:
        >>> import numpy as np
        >>> from heads import RegressionHead
        >>> head = RegressionHead().fit(np.eye(3, dtype=np.float32), [0.0, 5.0, 10.0])
        >>> head.predict(np.eye(3, dtype=np.float32)).shape
        (3,)
    """

    def __init__(self, encoder: Any = None, *, alpha: float | None = None) -> None:
        self.encoder = encoder
        self.alpha = alpha

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn from texts (n,) or vectors (n, dim) and one number per example.

        :raises InputError: for wrong input, NaN or infinity.
        """
        if self.alpha is not None and not is_positive(self.alpha):
            raise InputError(f"alpha is {self.alpha!r}, expected a positive number, or None to choose it.")
        if y is None:
            raise InputError("requires y to be passed, but the target y is None. Pass one number per example.")
        with as_input_error():
            values = np.asarray(column_or_1d(y, warn=True), dtype=np.float64)
            assert_all_finite(values)
        vectors = self._training_vectors(X, values)
        vectors, values, weights = merged(vectors, values, checked_weights(sample_weight, len(values)))
        scale = float(np.einsum("ij,ij->i", vectors, vectors).mean()) or 1.0
        alphas = _ALPHAS if self.alpha is None else (self.alpha / scale,)
        model = RidgeCV(alphas=[alpha * scale for alpha in alphas])
        with as_input_error():
            model.fit(vectors.astype(np.float64), values, sample_weight=weights)
        self.alpha_, self.coef_, self.intercept_ = float(model.alpha_), model.coef_, float(model.intercept_)
        return self

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The number of each example, shape (n,)."""
        values: NDArray[Any] = self._vectors(X) @ self.coef_ + self.intercept_
        return values

    def to_fitted(self, *, fingerprint: str | None = None) -> FittedHead:
        """What serving needs, without scikit-learn."""
        mark = self._mark(fingerprint)
        scorer = Linear(self.coef_[None, :], np.array([self.intercept_]))
        return FittedHead(scorer, ("value",), mark, self.space_, link="identity")
