"""The linear head: multinomial logistic regression on an encoder's vectors, as a scikit-learn classifier.

This module imports scikit-learn (1.4 s, 160 MB); reach it through ``heads.LinearHead``, which does so when first used.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_consistent_length, check_is_fitted, validate_data

from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.spaces import space_of
from heads.examples import as_input_error, as_texts, check_label_kinds, checked_encoder, encode_texts
from heads.fitted import FittedHead
from heads.regularisation import choose_c


class LinearHead(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Multinomial logistic regression on texts or on their vectors.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.
    :param C: inverse regularisation strength as in scikit-learn; None chooses it on held-out examples.
    :param max_iter: most iterations of the solver (L-BFGS) per fit.
    :param tol: stop when the gradient has shrunk to this share of its size at zero weights. Relative, because with many
        classes and unit vectors scikit-learn's absolute tolerance stops before the first step.
    :param random_state: seed of the split that chooses ``C``.

    Learnt: ``classes_`` (n_classes,), ``coef_`` (1 or n_classes, dim), ``intercept_``, ``C_``, ``n_iter_`` (iterations
    over all fits), ``n_features_in_`` and ``fingerprint_`` and ``space_`` (of the encoder, None without one).
    """

    def __init__(
        self,
        encoder: Any = None,
        *,
        C: float | None = None,  # noqa: N803  scikit-learn's name
        max_iter: int = 300,
        tol: float = 0.01,
        random_state: Any = 0,
    ) -> None:
        self.encoder = encoder
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Learn from texts (n,) or vectors (n, dim) and one label per example.

        :raises InputError: for empty or wrong input, NaN or infinity, labels of mixed kinds, fewer than two classes.
        """
        self._check_parameters()
        vectors, labels = self._training_data(X, y)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"Found one class only ({self.classes_[0]!s}), expected examples of two classes or more to tell apart."
            )
        self._solve(vectors, targets)
        self.fingerprint_ = None if self.encoder is None else str(self.encoder.fingerprint)
        self.space_ = None if self.encoder is None else space_of(self.encoder).root
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Scores of shape (n, n_classes), or (n,) for two classes, as scikit-learn has it.

        :raises InputError: for wrong input.
        :raises FingerprintError: if the encoder was replaced after ``fit``.
        """
        check_is_fitted(self)
        scores: NDArray[Any] = self._vectors_for_prediction(X) @ self.coef_.T + self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict_proba(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Probabilities of shape (n, n_classes); errors as in :meth:`decision_function`."""
        scores = self.decision_function(X)
        logits = np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: NDArray[Any] = exponents / exponents.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The most probable label of each example, shape (n,); errors as in :meth:`decision_function`."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def to_fitted(self, *, fingerprint: str | None = None) -> FittedHead:
        """What serving needs, without scikit-learn.

        :param fingerprint: of the model that made the vectors, where the head was fitted without an encoder.
        :raises InputError: if ``fingerprint`` contradicts the encoder's, or a label is neither text nor number.
        """
        check_is_fitted(self)
        if fingerprint is not None and self.fingerprint_ not in (None, fingerprint):
            raise InputError(f"The head was fitted with model {self.fingerprint_}, not {fingerprint}. Leave it out.")
        weights, bias = self.coef_, self.intercept_
        if len(weights) == 1:  # softmax over (-z/2, z/2) is the sigmoid of z
            weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        return FittedHead(weights, bias, tuple(self.classes_.tolist()), fingerprint or self.fingerprint_, self.space_)

    def _check_parameters(self) -> None:
        if self.C is not None and not _is_positive(self.C):
            raise InputError(f"C is {self.C!r}, expected a positive number, or None to choose it.")
        if not _is_positive(self.tol):
            raise InputError(f"tol is {self.tol!r}, expected a positive number.")
        if not isinstance(self.max_iter, int | np.integer) or self.max_iter < 1:
            raise InputError(f"max_iter is {self.max_iter!r}, expected an integer of 1 or more.")
        if self.encoder is not None:
            checked_encoder(self.encoder)

    def _training_data(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: N803
        texts = as_texts(X)
        with as_input_error():
            if texts is not None:
                # y first: a wrong label should not cost an hour of encoding
                check_label_kinds(y)
                labels = _check_y(y, multi_output=False, y_numeric=False, estimator=self)
                check_consistent_length(texts, labels)
                check_classification_targets(labels)
                return self._validated(encode_texts(self.encoder, texts), reset=True), labels
            check_label_kinds(y)
            vectors, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
            check_classification_targets(labels)
        self._check_width()
        return vectors, labels

    def _vectors_for_prediction(self, X: Any) -> NDArray[Any]:  # noqa: N803
        if self.encoder is not None and self.fingerprint_ != checked_encoder(self.encoder).fingerprint:
            raise FingerprintError(
                f"The head was fitted with model {self.fingerprint_}, its encoder is now {self.encoder.fingerprint}. "
                "Fit again with this encoder."
            )
        texts = as_texts(X)
        return self._validated(X if texts is None else encode_texts(self.encoder, texts), reset=False)

    def _validated(self, vectors: Any, *, reset: bool) -> NDArray[Any]:
        with as_input_error():
            checked: NDArray[Any] = validate_data(self, vectors, reset=reset, dtype=[np.float64, np.float32])
        return checked

    def _check_width(self) -> None:
        if self.encoder is not None and self.encoder.dim != self.n_features_in_:
            raise InputError(f"Vectors are {self.n_features_in_} wide, the encoder's {self.encoder.dim}.")

    def _solve(self, vectors: NDArray[Any], targets: NDArray[np.intp]) -> None:
        tol = self.tol * _gradient_at_zero(vectors, targets)
        model = LogisticRegression(tol=tol, max_iter=self.max_iter, warm_start=True)
        n_iter = 0
        self.C_ = self.C
        if self.C is None:
            rng = check_random_state(self.random_state)
            choice = choose_c(vectors, targets, tol=tol, max_iter=self.max_iter, rng=rng)
            self.C_, n_iter = choice.C, choice.n_iter
            if choice.coef is not None:
                model.coef_, model.intercept_ = choice.coef, choice.intercept
        model.set_params(C=self.C_).fit(vectors, targets)
        self.coef_, self.intercept_ = model.coef_, model.intercept_
        self.n_iter_ = n_iter + int(model.n_iter_.max())

    def __sklearn_clone__(self) -> Self:
        # scikit-learn would deep-copy the encoder: one model per grid point, and ONNX sessions cannot be copied at all.
        copy = type(self)(**self.get_params(deep=False))
        if hasattr(self, "_metadata_request"):
            copy._metadata_request = self._metadata_request
        return copy

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(0 < value < np.inf)


def _gradient_at_zero(vectors: NDArray[Any], targets: NDArray[np.intp]) -> float:
    """Largest entry of the mean log-loss's gradient where all weights are zero, which sets the scale of ``tol``."""
    sizes = np.bincount(targets)
    sums = np.zeros((len(sizes), vectors.shape[1]), dtype=np.float64)
    np.add.at(sums, targets, vectors)
    gradient = np.abs(sums - sums.sum(axis=0) / len(sizes)).max() / len(targets)
    return max(float(gradient), float(np.finfo(np.float32).eps))
