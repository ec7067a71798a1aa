"""The base of all heads that can be fitted: scikit-learn's contract over texts or vectors.

This module imports scikit-learn (1.4 s, 160 MB); the names of :mod:`heads` reach it when first used.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.model.embedding_space import space_of
from heads.validation import (
    as_input_error,
    as_texts,
    check_label_kinds,
    checked_encoder,
    checked_weights,
    encode_texts,
)


class HeadEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Texts or vectors in, with the checks that both need; knows its encoder's mark and space."""

    encoder: Any

    def _training_vectors(self, X: Any, y: Any) -> NDArray[Any]:  # noqa: N803
        """Vectors (n, dim) of what is to be learned from, as many as ``y`` has entries."""
        if self.encoder is not None:
            checked_encoder(self.encoder)
        texts = as_texts(X)
        with as_input_error():
            if texts is not None:
                check_consistent_length(texts, y)
                vectors = self._validated(encode_texts(self.encoder, texts), reset=True)
            else:
                vectors = self._validated(X, reset=True)
                check_consistent_length(vectors, y)
        if self.encoder is not None and self.encoder.dim != self.n_features_in_:
            raise InputError(f"Vectors are {self.n_features_in_} wide, the encoder's {self.encoder.dim}.")
        self.fingerprint_ = None if self.encoder is None else str(self.encoder.fingerprint)
        self.space_ = None if self.encoder is None else space_of(self.encoder).root
        return vectors

    def _vectors(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Vectors (n, dim) of what is to be predicted."""
        check_is_fitted(self)
        if self.encoder is not None and self.fingerprint_ != checked_encoder(self.encoder).fingerprint:
            raise FingerprintError(
                f"The head was fitted with model {self.fingerprint_}, its encoder is now {self.encoder.fingerprint}. "
                "Fit again with this encoder."
            )
        texts = as_texts(X)
        return self._validated(X if texts is None else encode_texts(self.encoder, texts), reset=False)

    def _mark(self, fingerprint: str | None) -> str | None:
        """The fingerprint to save: the encoder's, or the one that the caller vouches for."""
        check_is_fitted(self)
        if fingerprint is not None and self.fingerprint_ not in (None, fingerprint):
            raise InputError(f"The head was fitted with model {self.fingerprint_}, not {fingerprint}. Leave it out.")
        mark: str | None = fingerprint or self.fingerprint_
        return mark

    def _validated(self, vectors: Any, *, reset: bool) -> NDArray[Any]:
        with as_input_error():
            checked: NDArray[Any] = validate_data(self, vectors, reset=reset, dtype=[np.float64, np.float32])
        return checked

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


class ClassifierHead(ClassifierMixin, HeadEstimator):  # type: ignore[misc]
    """One label of several for every text."""

    class_weight: Any = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn from texts (n,) or vectors (n, dim) and one label per example.

        Examples of equal vector and label count as one with the sum of their weights, so that a text that occurs twice
        is never both learned from and held out.

        :param sample_weight: shape (n,), not negative; None weighs all alike.
        :raises InputError: for empty or wrong input, NaN or infinity, labels of mixed kinds, fewer than two classes.
        """
        self._check_parameters()
        labels = _checked_labels(y)
        texts = as_texts(X)
        with as_input_error():
            if texts is not None:  # before they are encoded: a wrong label should not cost an hour
                check_consistent_length(texts, labels)
            classes = np.unique(labels)
        if len(classes) == 1:
            raise InputError(
                f"Found one class only ({classes[0]!s}), expected examples of two classes or more to tell apart."
            )
        vectors = self._training_vectors(X, labels)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        weights = self._weights(sample_weight, labels)
        self._learn(*distinct(vectors, targets, weights, self.classes_))
        return self

    @abstractmethod
    def decision_function(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Scores of shape (n, n_classes), or (n,) for two classes, as scikit-learn has it.

        :raises InputError: for wrong input.
        :raises FingerprintError: if the encoder was replaced after ``fit``.
        """

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

    @abstractmethod
    def _check_parameters(self) -> None:
        """Refuse what the constructor was given, in :class:`InputError`."""

    @abstractmethod
    def _learn(self, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> None:
        """Fit to distinct examples of class numbers."""

    def _weights(self, sample_weight: Any, labels: NDArray[Any]) -> NDArray[Any] | None:
        weights = checked_weights(sample_weight, len(labels))
        if self.class_weight is None:
            return weights
        with as_input_error():
            by_class: NDArray[Any] = compute_sample_weight(self.class_weight, labels)
        return by_class if weights is None else weights * by_class


def distinct(
    vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None, classes: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[Any] | None]:
    """Examples without repetition or zero weight, in an order of their own; weights None if all are 1.

    :raises InputError: if a class is left without examples.
    """
    if weights is not None:
        missing = np.setdiff1d(np.arange(len(classes)), targets[weights > 0])
        if len(missing):
            raise InputError(f"All examples of class {classes[missing[0]]!s} have weight 0. Leave the class out.")
    return merged(vectors, targets, weights)


def merged(
    vectors: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Examples of equal vector and target as one with the sum of their weights, those of weight zero left out.

    The order depends on nothing but the examples themselves.
    """
    if weights is not None:
        kept = weights > 0
        vectors, targets, weights = vectors[kept], targets[kept], weights[kept]
    rows = np.column_stack([np.asarray(targets, dtype=np.float64).view(np.uint64), _as_integers(vectors)])
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) < len(keys) or weights is not None:
        weights = np.bincount(group, weights=weights, minlength=len(first)).astype(np.float64)
    return vectors[first], targets[first], weights


def _as_integers(vectors: NDArray[Any]) -> NDArray[np.uint64]:
    """The bits of each vector in 64-bit integers; -0.0 is 0.0."""
    rows = np.ascontiguousarray(vectors + 0.0)
    if rows.itemsize * rows.shape[1] % 8:
        rows = np.column_stack([rows, np.zeros(len(rows), rows.dtype)])
    return rows.view(np.uint64)


def _checked_labels(y: Any) -> NDArray[Any]:
    if y is None:
        raise InputError("requires y to be passed, but the target y is None. Pass one label per example.")
    with as_input_error():
        check_label_kinds(y)
        labels: NDArray[Any] = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f":
            assert_all_finite(labels)
        with warnings.catch_warnings():
            # half as many classes as examples is no sign of a regression here: few-shot heads have one or two a class
            warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
            check_classification_targets(labels)
    return labels
