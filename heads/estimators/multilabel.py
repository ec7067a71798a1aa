"""Any number of labels per text: one logistic regression per label, and thresholds tuned for F1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from encoder_tools.errors import InputError
from heads.estimators.base import HeadEstimator
from heads.estimators.linear import is_positive
from heads.selection.regularization import START, choose_c, few_threads
from heads.serving.arrays import sigmoid
from heads.serving.fitted_head import FittedHead
from heads.serving.scorers import Linear
from heads.validation import checked_weights

_FOLDS = 3
_ASKED = 5  # labels that are asked for the regularization
_FEWEST = 10  # positive examples from which a label has a threshold of its own


class MultiLabelHead(HeadEstimator):
    """Independent labels on texts or vectors.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.
    :param C: inverse regularization strength of each label's logistic regression; None chooses one for all.
    :param random_state: seed of the folds.

    Learnt: ``classes_`` (n_labels,), ``coef_`` (n_labels, dim), ``intercept_``, ``thresholds_`` (n_labels,), ``C_``,
    ``n_features_in_``, ``fingerprint_``, ``space_``.

    Example:
        >>> import numpy as np
        >>> from heads import MultiLabelHead
        >>> vectors = np.tile(np.eye(3, dtype=np.float32), (8, 1))
        >>> head = MultiLabelHead().fit(vectors, [["money"], ["music"], ["money", "music"]] * 8)
        >>> head.predict(vectors[:1]).tolist(), head.classes_.tolist()
        ([[1, 0]], ['money', 'music'])
    """

    def __init__(self, encoder: Any = None, *, C: float | None = None, random_state: Any = 0) -> None:  # noqa: N803
        self.encoder = encoder
        self.C = C
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn from texts (n,) or vectors (n, dim).

        :param y: a list of labels for each example, which may be empty; or 0 and 1 of shape (n, n_labels), an array,
            sparse, or a table: its columns' names are the labels, else their numbers.
        :raises InputError: for wrong input, or if there is no label at all.
        """
        if self.C is not None and not is_positive(self.C):
            raise InputError(f"C is {self.C!r}, expected a positive number, or None to choose it.")
        self.classes_, hits = as_indicators(y)
        vectors = self._training_vectors(X, hits)
        weights = checked_weights(sample_weight, len(hits))
        rng = check_random_state(self.random_state)
        with few_threads(vectors, 1):
            self.C_ = self._chosen_c(vectors, hits, weights, rng) if self.C is None else self.C
            self.thresholds_ = self._tuned(vectors, hits, weights, rng)
            self.coef_, self.intercept_ = _one_per_label(vectors, hits, weights, self.C_)
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Scores of shape (n, n_labels)."""
        scores: NDArray[Any] = self._vectors(X) @ self.coef_.T + self.intercept_
        return scores

    def predict_proba(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The probability of each label, shape (n, n_labels)."""
        return sigmoid(self.decision_function(X))

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """0 and 1 of shape (n, n_labels): the labels above their thresholds."""
        return (self.predict_proba(X) >= self.thresholds_).astype(np.int64)

    def labels_of(self, X: Any) -> list[tuple[Any, ...]]:  # noqa: N803
        """The labels above their thresholds, most probable first, one tuple per example."""
        shares = self.predict_proba(X)
        return [
            tuple(self.classes_[c].item() for c in np.argsort(-row, kind="stable") if row[c] >= self.thresholds_[c])
            for row in shares
        ]

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """Micro-averaged F1 of the labels."""
        hits, predicted = as_indicators(y, self.classes_)[1], self.predict(X)
        return float(2 * (hits * predicted).sum() / max(1, hits.sum() + predicted.sum()))

    def to_fitted(self, *, fingerprint: str | None = None) -> FittedHead:
        """What serving needs, without scikit-learn."""
        check_is_fitted(self)
        scorer = Linear(self.coef_, self.intercept_)
        labels, mark = tuple(self.classes_.tolist()), self._mark(fingerprint)
        return FittedHead(scorer, labels, mark, self.space_, link="sigmoid", thresholds=self.thresholds_)

    def _chosen_c(self, vectors: Any, hits: Any, weights: Any, rng: np.random.RandomState) -> float:
        """Median over the most frequent labels: they have the most to say, and one strength for all is steadier."""
        rarer = np.minimum(hits.sum(axis=0), len(hits) - hits.sum(axis=0))
        order = [label for label in np.argsort(-rarer, kind="stable")[:_ASKED] if rarer[label]]
        if not order:  # each label always or never
            return START
        return float(
            np.median(
                [choose_c(vectors, hits[:, c], weights=weights, tol=1e-3, max_iter=200, rng=rng).C for c in order]
            )
        )

    def _tuned(self, vectors: Any, hits: Any, weights: Any, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Thresholds of greatest F1 on examples held out; 0.5, or the common one, where a label is rare."""
        fold = rng.permutation(len(hits)) % _FOLDS
        shares = np.zeros(hits.shape)
        for number in range(_FOLDS if len(hits) >= 2 * _FOLDS else 0):
            held = fold == number
            kept = None if weights is None else weights[~held]
            coef, intercept = _one_per_label(vectors[~held], hits[~held], kept, self.C_)
            shares[held] = sigmoid(vectors[held] @ coef.T + intercept)
        if not shares.any():
            return np.full(hits.shape[1], 0.5)
        common = best_threshold(shares.ravel(), hits.ravel())
        return np.array(
            [
                best_threshold(shares[:, c], hits[:, c]) if hits[:, c].sum() >= _FEWEST else common
                for c in range(hits.shape[1])
            ]
        )


def best_threshold(shares: NDArray[Any], hits: NDArray[Any]) -> float:
    """The probability from which to choose a label, for the greatest F1; 0.5 if there is no example of it.

    Halfway between two probabilities that occur, so that it does not hang on one example's rounding.
    """
    total = hits.sum()
    if not total:
        return 0.5
    order = np.argsort(-shares, kind="stable")
    ranked = shares[order]
    f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(order) + 1) + total)
    f1[:-1][ranked[1:] == ranked[:-1]] = -1  # ties are chosen together
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float((ranked[best] + below) / 2)


def as_indicators(y: Any, classes: NDArray[Any] | None = None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Labels (n_labels,) and 0 and 1 of shape (n, n_labels).

    :param classes: known labels; others are refused.
    :raises InputError: if ``y`` is neither lists of labels of one kind nor a matrix of 0 and 1.
    """
    if issparse(y):
        y = y.toarray()
    named = list(y.columns) if classes is None and hasattr(y, "columns") else None
    array = np.asarray(y) if getattr(y, "ndim", None) == 2 or _is_matrix(y) else None
    if array is not None:
        if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
            raise InputError("Labels are a matrix, expected 0 and 1 in it: one column per label.")
        if classes is not None and array.shape[1] != len(classes):
            raise InputError(f"Labels have {array.shape[1]} columns, expected one for each of {len(classes)} labels.")
        known = np.arange(array.shape[1]) if classes is None else classes
        return np.array(named) if named is not None else known, array.astype(np.int64)
    rows = [_as_row(row_number, row) for row_number, row in enumerate(y)]
    names = {name for row in rows for name in row}
    if classes is None:
        if not names:
            raise InputError("Found no label at all, expected some examples to have one or more.")
        if len({isinstance(name, str) for name in names}) > 1:
            raise InputError("Labels mix strings and numbers, expected one kind.")
        classes = np.array(sorted(names))
    place_of = {name: row_number for row_number, name in enumerate(classes.tolist())}
    unknown = names - set(place_of)
    if unknown:
        raise InputError(f"Label {min(map(str, unknown))!r} was in none of the examples that the head was fitted on.")
    hits = np.zeros((len(rows), len(classes)), dtype=np.int64)
    for number, row in enumerate(rows):
        hits[number, [place_of[name] for name in row]] = 1
    return classes, hits


def _is_matrix(y: Any) -> bool:
    rows = y if isinstance(y, list | tuple) else []
    same = len({len(row) if isinstance(row, list | tuple) else -1 for row in rows}) == 1
    return (
        same
        and bool(rows)
        and all(isinstance(row, list | tuple) and set(row) <= {0, 1} and len(row) > 1 for row in rows)
    )


def _as_row(row_number: int, row: Any) -> list[Any]:
    if isinstance(row, str) or not isinstance(row, Iterable):
        raise InputError(f"Labels of example {row_number} are a {type(row).__name__}, expected a list of labels.")
    names = list(row)
    for name in names:
        if not isinstance(name, str | int | np.integer):
            raise InputError(f"Labels of example {row_number} hold a {type(name).__name__}, expected names or numbers.")
    return names


def _one_per_label(
    vectors: NDArray[Any], hits: NDArray[np.int64], weights: Any, strength: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    n, labels = hits.shape
    coef, intercept = np.zeros((labels, vectors.shape[1])), np.zeros(labels)
    for label in range(labels):
        true_positives = hits[:, label].sum()
        if 0 < true_positives < n:
            model = LogisticRegression(C=strength, max_iter=300, tol=1e-4).fit(vectors, hits[:, label], weights)
            coef[label], intercept[label] = model.coef_[0], model.intercept_[0]
        else:  # never or always: the odds of the next example being the first of its kind
            intercept[label] = np.log((true_positives + 0.5) / (n - true_positives + 0.5))
    return coef, intercept
