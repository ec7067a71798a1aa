"""A fitted linear head: two arrays and the names of the classes; numpy is all it needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import InputError

_MOST_BITS = 63  # beside the sign; what JSON writers and numpy can tell apart

Label: TypeAlias = str | int | float
"""Name of a class (``bool`` included, as an ``int``)."""


class LabelProbability(NamedTuple):
    """One class and how probable the head finds it, in [0, 1]."""

    label: Label
    probability: float


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A linear classifier over vectors of one model, read-only.

    :param weights: float32 of shape (n_classes, dim); two classes have two rows.
    :param bias: float32 of shape (n_classes,).
    :param labels: one distinct name per class, in the order of the rows.
    :param fingerprint: of the model that made the vectors; None if the head was fitted on bare vectors.
    :param space: root of the space they are in; None takes the fingerprint. See :mod:`encoder_tools.spaces`.
    :raises InputError: if the parts do not fit each other or hold NaN or infinity.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    labels: tuple[Label, ...]
    fingerprint: str | None
    space: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _frozen_floats(self.weights, "weights", ndim=2))
        object.__setattr__(self, "bias", _frozen_floats(self.bias, "bias", ndim=1))
        object.__setattr__(self, "labels", _checked_labels(self.labels))
        rows = len(self.weights), len(self.bias), len(self.labels)
        if len(set(rows)) != 1 or rows[0] < 2 or self.dim < 1:
            raise InputError(
                f"A head needs as many weight rows, biases and labels, two or more; found {rows[0]}, {rows[1]} and "
                f"{rows[2]}, weights of width {self.dim}."
            )

    @property
    def dim(self) -> int:
        """Width of the vectors that the head takes."""
        return int(self.weights.shape[1])

    def decision_function(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Logits of shape (n, n_classes) for vectors of shape (n, dim).

        :raises InputError: if ``vectors`` is not a finite numeric matrix of width ``dim``.
        """
        matrix = self._checked_vectors(vectors)
        with np.errstate(over="ignore", invalid="ignore"):
            scores: NDArray[np.float32] = matrix @ self.weights.T + self.bias
        if not np.isfinite(scores).all():
            raise InputError("The vectors are too large for float32 scores. Pass the encoder's unit vectors.")
        return scores

    def predict_proba(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Probabilities of shape (n, n_classes); rows add up to one. Errors as in :meth:`decision_function`."""
        scores = self.decision_function(vectors)
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float32] = exponents / exponents.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, vectors: ArrayLike) -> NDArray[Any]:
        """The most probable label of each vector, an array of shape (n,). Errors as in :meth:`decision_function`."""
        labels: NDArray[Any] = np.asarray(self.labels)[self.decision_function(vectors).argmax(axis=1)]
        return labels

    def top(self, vectors: ArrayLike, n: int = 5) -> list[tuple[LabelProbability, ...]]:
        """The ``n`` most probable classes of each vector, best first (all of them if there are fewer).

        :raises InputError: if ``n`` is not a positive integer, or as in :meth:`decision_function`.
        """
        n = checked_integer(n, "n", 1)
        probabilities = self.predict_proba(vectors)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
        return [
            tuple(LabelProbability(self.labels[column], float(row[column])) for column in best)
            for row, best in zip(probabilities, order, strict=True)
        ]

    def _checked_vectors(self, vectors: ArrayLike) -> NDArray[np.float32]:
        try:
            matrix = np.asarray(vectors)
        except ValueError:
            raise InputError(f"The vectors differ in width, expected (n, {self.dim}).") from None
        if matrix.dtype.kind not in "fiu":
            raise InputError(f"Vectors are of type {matrix.dtype}, expected numbers: encode texts first.")
        if matrix.ndim != 2 or matrix.shape[1] != self.dim:
            raise InputError(f"Vectors have shape {matrix.shape}, expected (n, {self.dim}) as the head was fitted.")
        with np.errstate(over="ignore"):
            matrix = matrix.astype(np.float32, copy=False)
        broken = ~np.isfinite(matrix).all(axis=1)
        if broken.any():
            raise InputError(f"Vector {int(broken.argmax())} holds NaN or infinity, expected finite numbers.")
        return matrix


def _frozen_floats(values: NDArray[Any], name: str, *, ndim: int) -> NDArray[np.float32]:
    array = np.array(values, dtype=np.float32, order="C")
    if array.ndim != ndim or not np.isfinite(array).all():
        raise InputError(f"The head's {name} have shape {array.shape}, expected {ndim} dimension(s) of finite numbers.")
    array.flags.writeable = False
    return array


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
