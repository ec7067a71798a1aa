"""A fitted head: all that serving needs of any estimator, with numpy alone."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from heads.serving.abstention import Abstention
from heads.serving.arrays import checked_vectors, frozen_floats
from heads.serving.calibration import UNCALIBRATED, Calibration, Link
from heads.serving.ood import Scope
from heads.serving.scorers import Linear, Scorer

_MOST_BITS = 63  # beside the sign; what JSON writers and numpy can tell apart

Label: TypeAlias = str | int | float
"""Name of a class (``bool`` included, as an ``int``)."""


class LabelProbability(NamedTuple):
    """One class and how probable the head finds it, in [0, 1]."""

    label: Label
    probability: float


class Prediction(NamedTuple):
    """What a head says of one text.

    :ivar labels: the most probable ones, best first; of a regression none.
    :ivar abstained: whether the best one is not probable enough to be given as an answer.
    :ivar out_of_scope: whether the text is unlike the head's examples; None if the head cannot tell.
    :ivar chosen: of a multi-label head those above their thresholds, best first; else None.
    :ivar value: of a regression; else None.
    :ivar pieces: number of chunks that the text was predicted in; their scores were averaged.
    """

    labels: tuple[LabelProbability, ...]
    abstained: bool
    out_of_scope: bool | None
    chosen: tuple[Label, ...] | None = None
    value: float | None = None
    pieces: int = 1


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A classifier or regression over vectors of one model, read-only.

    :param scorer: from vectors to a score per label.
    :param labels: one distinct name per score.
    :param fingerprint: of the model that made the vectors; None if the head was fitted on bare vectors.
    :param space: root of the space they are in; None takes the fingerprint. See
        :mod:`encoder_tools.model.embedding_space`.
    :param link: "softmax" for one label of several, "sigmoid" for any number of labels, "identity" for a number.
    :param calibration: from scores to probabilities.
    :param thresholds: of a "sigmoid" head: probabilities from which a label is chosen, float32 of shape (n_labels,).
    :param abstention: when to give no answer; None always gives one.
    :param scope: tells texts that are unlike the examples; None cannot.
    :raises InputError: if the parts do not fit each other or hold NaN or infinity.

    Example:
        >>> import numpy as np
        >>> from heads import LinearHead
        >>> head = LinearHead().fit(np.eye(4, dtype=np.float32), list("aabb")).to_fitted()
        >>> head.labels, head.predict(np.eye(4)[[0]]).tolist(), head.predictions(np.eye(4)[[0]])[0].abstained
        (('a', 'b'), ['a'], False)
    """

    scorer: Scorer
    labels: tuple[Label, ...]
    fingerprint: str | None
    space: str | None = None
    link: Link = "softmax"
    calibration: Calibration = UNCALIBRATED
    thresholds: NDArray[np.floating] | None = None
    abstention: Abstention | None = None
    scope: Scope | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _checked_labels(self.labels))
        n = len(self.labels)
        if n != self.scorer.n_outputs or n < (2 if self.link == "softmax" else 1):
            raise InputError(
                f"A head needs as many weight rows, biases and labels, two or more; found scores for "
                f"{self.scorer.n_outputs} and {n} labels."
            )
        if self.link not in ("softmax", "sigmoid", "identity"):
            raise InputError(f"Link {self.link!r} is not known, expected softmax, sigmoid or identity.")
        if self.calibration.bias is not None and len(self.calibration.bias) != n:
            raise InputError(f"The calibration has {len(self.calibration.bias)} biases for {n} labels.")
        if (self.thresholds is not None) != (self.link == "sigmoid"):
            raise InputError("Thresholds belong to heads that choose any number of labels, and to no other.")
        if self.thresholds is not None:
            object.__setattr__(self, "thresholds", frozen_floats(self.thresholds, "thresholds", ndim=1))
            if len(self.thresholds) != n:
                raise InputError(f"The head has {len(self.thresholds)} thresholds for {n} labels.")

    @classmethod
    def linear(
        cls,
        weights: ArrayLike,
        bias: ArrayLike,
        labels: tuple[Label, ...],
        fingerprint: str | None,
        space: str | None = None,
    ) -> Self:
        """A linear head.

        :param weights: of shape (n_classes, dim); two classes have two rows.
        :param bias: of shape (n_classes,).
        """
        return cls(Linear(np.asarray(weights), np.asarray(bias)), labels, fingerprint, space)

    @property
    def dim(self) -> int:
        """Width of the vectors that the head takes."""
        return self.scorer.dim

    def decision_function(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Scores of shape (n, n_labels) for vectors of shape (n, dim).

        :raises InputError: if ``vectors`` is not a finite numeric matrix of width ``dim``.
        """
        return self._scores(checked_vectors(vectors, self.dim))

    def predict_proba(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Probabilities of shape (n, n_labels); of one label of several, rows add up to one.

        :raises InputError: for a regression, or as in :meth:`decision_function`.
        """
        return self.probabilities(self.decision_function(vectors))

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of what :meth:`decision_function` gave.

        :raises InputError: for a regression.
        """
        if self.link == "identity":
            raise InputError("A regression has no probabilities. Ask it to predict.")
        return self.calibration.probabilities(scores, self.link)

    def predict(self, vectors: ArrayLike) -> NDArray[Any]:
        """An array of shape (n,): the most probable labels; tuples of the chosen ones for a multi-label head; numbers
        for a regression. Errors as in :meth:`decision_function`.
        """
        scores = self.decision_function(vectors)
        if self.link == "identity":
            return scores[:, 0] if scores.shape[1] == 1 else scores
        probabilities = self.probabilities(scores)
        if self.link == "softmax":
            labels: NDArray[Any] = np.asarray(self.labels)[probabilities.argmax(axis=1)]
            return labels
        predicted = np.empty(len(scores), dtype=object)
        for row, shares in enumerate(probabilities):
            predicted[row] = self._chosen(shares)
        return predicted

    def top(self, vectors: ArrayLike, n: int = 5) -> list[tuple[LabelProbability, ...]]:
        """The ``n`` most probable classes of each vector, best first (all of them if there are fewer).

        :raises InputError: if ``n`` is not a positive integer, or as in :meth:`predict_proba`.
        """
        n = checked_integer(n, "n", 1)
        return self._top(self.predict_proba(vectors), n)

    def predictions(self, vectors: ArrayLike, n: int = 5) -> list[Prediction]:
        """Everything that the head predicts of each vector, its ``n`` best labels included.

        :raises InputError: if ``n`` is not a positive integer, or as in :meth:`decision_function`.
        """
        matrix = checked_vectors(vectors, self.dim)
        return self.predictions_from_scores(matrix, self._scores(matrix), checked_integer(n, "n", 1))

    def judge(self, vectors: ArrayLike, n: int = 5) -> list[Prediction]:
        """Deprecated name of :meth:`predictions`, until 0.2."""
        warnings.warn("FittedHead.judge is called FittedHead.predictions now.", DeprecationWarning, stacklevel=2)
        return self.predictions(vectors, n)

    def predictions_from_scores(self, matrix: FloatMatrix, scores: NDArray[np.float32], n: int) -> list[Prediction]:
        """What :meth:`predictions` gives, of checked vectors (rows, dim) and their scores (rows, n_labels)."""
        out_of_scope = self._out_of_scope(matrix, scores)
        if self.link == "identity":
            return [Prediction((), False, s, None, float(row[0])) for row, s in zip(scores, out_of_scope, strict=True)]
        probabilities = self.probabilities(scores)
        below = 0.0 if self.abstention is None else self.abstention.below
        return [
            Prediction(
                best, bool(best[0].probability < below), s, self._chosen(row) if self.link == "sigmoid" else None
            )
            for best, row, s in zip(self._top(probabilities, n), probabilities, out_of_scope, strict=True)
        ]

    def _out_of_scope(self, matrix: FloatMatrix, scores: NDArray[np.float32]) -> list[bool | None]:
        if self.scope is None:
            return [None] * len(matrix)
        return list((self.scope.ood_score(matrix, scores) > self.scope.threshold).tolist())

    def _scores(self, matrix: FloatMatrix) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self.scorer.scores(matrix)
        check_scores(scores)
        return scores

    def _top(self, probabilities: NDArray[np.float32], n: int) -> list[tuple[LabelProbability, ...]]:
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
        return [
            tuple(LabelProbability(self.labels[column], float(row[column])) for column in best)
            for row, best in zip(probabilities, order, strict=True)
        ]

    def _chosen(self, shares: NDArray[np.float32]) -> tuple[Label, ...]:
        over = np.flatnonzero(shares >= (0.5 if self.thresholds is None else self.thresholds))
        return tuple(self.labels[column] for column in over[np.argsort(-shares[over], kind="stable")])


def check_scores(scores: NDArray[np.float32]) -> None:
    """Check that scores did not overflow.

    :raises InputError: if one is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise InputError("The vectors are too large for float32 scores. Pass the encoder's unit vectors.")


def _checked_labels(labels: tuple[Label, ...]) -> tuple[Label, ...]:
    for label in labels:
        if not isinstance(label, str | int | float) or (isinstance(label, float) and not math.isfinite(label)):
            raise InputError(f"Label {label!r} is a {type(label).__name__}, expected a string or a finite number.")
        if isinstance(label, int) and label.bit_length() > _MOST_BITS:
            raise InputError(f"Label {label} does not fit into 64 bits, expected a smaller number. Rename the class.")
    if len({isinstance(label, str) for label in labels}) > 1:
        raise InputError("Labels mix strings and numbers, expected one kind.")
    if len(set(labels)) != len(labels):
        raise InputError("Labels occur more than once, expected one name per class.")
    return tuple(labels)
