"""Out-of-distribution scores: is a text like those that a head was fitted on? Numpy only; how it is chosen:
heads.selection.ood_method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from heads.serving.arrays import frozen_floats, log_sum_exp, softmax

_ROWS_AT_A_TIME = 1024


class OodMethod(ABC):
    """One number per text, greater for texts that are less like the head's examples."""

    kind: ClassVar[str]

    @abstractmethod
    def measure(self, vectors: FloatMatrix, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of shape (n,), for vectors (n, dim) and the head's scores of them (n, n_labels)."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Its arrays, by name."""
        return {}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """What :meth:`tensors` describes."""
        return cls()


class MaxProbability(OodMethod):
    """One minus the greatest probability (Hendrycks & Gimpel, ICLR 2017): what is to be beaten."""

    kind = "doubt"

    def measure(self, vectors: FloatMatrix, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`OodMethod`."""
        doubt: NDArray[np.float32] = 1 - softmax(scores).max(axis=1)
        return doubt


class Energy(OodMethod):
    """Minus the log of the sum of exponentials of the scores (Liu et al., NeurIPS 2020)."""

    kind = "energy"

    def measure(self, vectors: FloatMatrix, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`OodMethod`."""
        energy: NDArray[np.float32] = -log_sum_exp(scores)
        return energy


@dataclass(frozen=True, eq=False)
class Mahalanobis(OodMethod):
    """Distance to the nearest class mean under the classes' shared covariance (Lee et al., NeurIPS 2018).

    :param means: of the classes, whitened, float32 of shape (n_classes, rank).
    :param whitening: float32 of shape (dim, rank).
    """

    means: NDArray[np.float32]
    whitening: NDArray[np.float32]
    kind: ClassVar[str] = "mahalanobis"

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", frozen_floats(self.means, "means", ndim=2))
        object.__setattr__(self, "whitening", frozen_floats(self.whitening, "whitening", ndim=2))
        if self.means.shape[1] != self.whitening.shape[1]:
            raise InputError(f"Means of shape {self.means.shape} do not fit a whitening of {self.whitening.shape}.")

    def measure(self, vectors: FloatMatrix, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`OodMethod`."""
        white = vectors @ self.whitening
        squares = (white**2).sum(axis=1)[:, None] - 2 * white @ self.means.T + (self.means**2).sum(axis=1)
        distances: NDArray[np.float32] = np.sqrt(np.maximum(squares.min(axis=1), 0))
        return distances

    def tensors(self) -> dict[str, NDArray[Any]]:
        """See :class:`OodMethod`."""
        return {"means": self.means, "whitening": self.whitening}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """See :class:`OodMethod`."""
        return cls(tensors["means"], tensors["whitening"])


@dataclass(frozen=True, eq=False)
class Distance(OodMethod):
    """One minus the cosine of the nearest example (Sun et al., ICML 2022, with k = 1).

    :param examples: unit vectors, float32 of shape (n, dim).
    """

    examples: NDArray[np.float32]
    kind: ClassVar[str] = "distance"

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", frozen_floats(self.examples, "examples", ndim=2))
        if not len(self.examples):
            raise InputError("A distance needs examples, found none.")

    def measure(self, vectors: FloatMatrix, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`OodMethod`."""
        distances = np.empty(len(vectors), dtype=np.float32)
        for start in range(0, len(vectors), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            distances[part] = 1 - (vectors[part] @ self.examples.T).max(axis=1)
        return distances

    def tensors(self) -> dict[str, NDArray[Any]]:
        """See :class:`OodMethod`."""
        return {"examples": self.examples}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """See :class:`OodMethod`."""
        return cls(tensors["examples"])


OOD_METHODS: dict[str, type[OodMethod]] = {kind.kind: kind for kind in (MaxProbability, Energy, Mahalanobis, Distance)}
"""Every kind by the name that files give it."""


@dataclass(frozen=True, eq=False)
class Scope:
    """A weighted sum of OOD scores, each brought to one scale, and where "out of scope" begins.

    :param parts: what is added up.
    :param weights: of the parts, float32 of shape (n_parts,).
    :param centers: of the parts on texts in scope, of the same shape.
    :param threshold: texts above are out of scope.
    :param accepts: share of the texts in scope that the threshold was chosen to accept.
    """

    parts: tuple[OodMethod, ...]
    weights: NDArray[np.float32]
    centers: NDArray[np.float32]
    threshold: float
    accepts: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", frozen_floats(self.weights, "scope weights", ndim=1))
        object.__setattr__(self, "centers", frozen_floats(self.centers, "scope centers", ndim=1))
        if not len(self.parts) == len(self.weights) == len(self.centers) or not self.parts:
            raise InputError(f"A scope of {len(self.parts)} parts needs as many weights and centers, one or more.")
        if not np.isfinite(self.threshold) or not 0 <= self.accepts <= 1:
            raise InputError(f"The scope's threshold {self.threshold} or share {self.accepts} is not a usable number.")

    @property
    def name(self) -> str:
        """Kinds of its parts, joined by "+"."""
        return "+".join(part.kind for part in self.parts)

    def ood_score(self, vectors: FloatMatrix, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of shape (n,): greater for texts that are less like the head's examples."""
        total = np.zeros(len(vectors), dtype=np.float32)
        for part, weight, center in zip(self.parts, self.weights, self.centers, strict=True):
            total += weight * (part.measure(vectors, scores) - center)
        return total
