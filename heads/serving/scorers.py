"""Scorers: from vectors to one score per label, with numpy alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from encoder_tools.vectors import unit_rows
from heads.serving.arrays import frozen_floats, frozen_numbers, log_sum_exp, softmax

Tensors = Mapping[str, NDArray[Any]]
_ROWS_AT_A_TIME = 1024


class Scorer(ABC):
    """What turns vectors (n, dim) into scores (n, n_outputs), and can be written as tensors and a few numbers."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the vectors."""

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Scores per vector."""

    @abstractmethod
    def scores(self, vectors: FloatMatrix) -> NDArray[np.float32]:
        """Scores of shape (n, n_outputs) for checked vectors of shape (n, dim)."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Its arrays, by name."""

    def settings(self) -> dict[str, float]:
        """Its numbers, by name."""
        return {}

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Tensors, settings: Mapping[str, float]) -> Self:
        """The scorer that :meth:`tensors` and :meth:`settings` describe.

        :raises InputError: if they do not fit each other or hold NaN or infinity.
        :raises KeyError: if one is missing.
        """


@dataclass(frozen=True, eq=False)
class Linear(Scorer):
    """``vectors @ weights.T + bias``.

    :param weights: float32 of shape (n_outputs, dim).
    :param bias: float32 of shape (n_outputs,).
    """

    weights: NDArray[np.floating]
    bias: NDArray[np.floating]
    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", frozen_floats(self.weights, "weights", ndim=2))
        object.__setattr__(self, "bias", frozen_floats(self.bias, "bias", ndim=1))
        if len(self.weights) != len(self.bias) or not self.weights.size:
            raise InputError(
                f"A head needs as many weight rows as biases, found {len(self.weights)} of width "
                f"{self.weights.shape[1]} and {len(self.bias)}."
            )

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.weights.shape[1])

    @property
    def n_outputs(self) -> int:
        """Scores per vector."""
        return len(self.bias)

    def scores(self, vectors: FloatMatrix) -> NDArray[np.float32]:
        """See :class:`Scorer`."""
        scores: NDArray[np.float32] = vectors @ self.weights.T + self.bias
        return scores

    def tensors(self) -> dict[str, NDArray[Any]]:
        """See :class:`Scorer`."""
        return {"weights": self.weights, "bias": self.bias}

    @classmethod
    def restore(cls, tensors: Tensors, settings: Mapping[str, float]) -> Self:
        """See :class:`Scorer`."""
        return cls(tensors["weights"], tensors["bias"])


@dataclass(frozen=True, eq=False)
class Layers(Scorer):
    """Linear layers with ReLU between them: a multi-layer perceptron."""

    layers: tuple[Linear, ...]
    kind: ClassVar[str] = "mlp"

    def __post_init__(self) -> None:
        widths = [(layer.dim, layer.n_outputs) for layer in self.layers]
        if not widths or any(before[1] != after[0] for before, after in pairwise(widths)):
            raise InputError(f"The head's layers have shapes {widths}, expected each as wide as the one before it.")

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.layers[0].dim

    @property
    def n_outputs(self) -> int:
        """Scores per vector."""
        return self.layers[-1].n_outputs

    def scores(self, vectors: FloatMatrix) -> NDArray[np.float32]:
        """See :class:`Scorer`."""
        for layer in self.layers[:-1]:
            vectors = np.maximum(layer.scores(vectors), 0)
        return self.layers[-1].scores(vectors)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """See :class:`Scorer`."""
        return {f"{name}.{i}": t for i, layer in enumerate(self.layers) for name, t in layer.tensors().items()}

    @classmethod
    def restore(cls, tensors: Tensors, settings: Mapping[str, float]) -> Self:
        """See :class:`Scorer`."""
        return cls(tuple(Linear(tensors[f"weights.{i}"], tensors[f"bias.{i}"]) for i in range(len(tensors) // 2)))


@dataclass(frozen=True, eq=False)
class Neighbors(Scorer):
    """Logarithms of what the nearest examples vote for: each with ``exp(sharpness * (cosine - nearest))``.

    Votes are relative to the nearest one's, which is 1: the class of a far text is told by its neighbors too.

    :param vectors: of the examples, float32 of shape (n, dim), unit.
    :param targets: their class numbers, int32 of shape (n,).
    :param k: how many vote.
    :param sharpness: how much more the nearer ones have to say.
    :param floor: votes that every class has for nothing, so that no probability is zero.
    :param relative: False for heads of an earlier version, whose votes are ``exp(sharpness * (cosine - 1))``.
    """

    vectors: NDArray[np.float32]
    targets: NDArray[np.integer]
    classes: int
    k: int
    sharpness: float
    floor: float
    relative: bool = True
    kind: ClassVar[str] = "knn"

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", frozen_floats(self.vectors, "examples", ndim=2))
        object.__setattr__(self, "targets", frozen_numbers(self.targets, "targets", self.classes))
        if len(self.vectors) != len(self.targets) or not 1 <= self.k <= len(self.targets):
            raise InputError(
                f"The head has {len(self.vectors)} examples, {len(self.targets)} targets and k {self.k}, expected as "
                "many targets as examples and k from 1 to that."
            )
        if not (0 < self.sharpness < np.inf and 0 < self.floor < np.inf):
            raise InputError(f"Sharpness {self.sharpness} and floor {self.floor} of the head are not positive numbers.")

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def n_outputs(self) -> int:
        """Scores per vector."""
        return self.classes

    def scores(self, vectors: FloatMatrix) -> NDArray[np.float32]:
        """See :class:`Scorer`."""
        scores = np.empty((len(vectors), self.classes), dtype=np.float32)
        for start in range(0, len(vectors), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            scores[part] = self._votes(vectors[part])
        return scores

    def _votes(self, vectors: FloatMatrix) -> NDArray[np.float32]:
        cosines = unit_rows(vectors) @ self.vectors.T
        best = np.argpartition(-cosines, self.k - 1, axis=1)[:, : self.k]
        near = np.take_along_axis(cosines, best, axis=1)
        votes = np.exp(self.sharpness * (near - (near.max(axis=1, keepdims=True) if self.relative else 1)))
        total = np.full((len(vectors), self.classes), self.floor, dtype=np.float32)
        np.add.at(total, (np.arange(len(vectors))[:, None], self.targets[best]), votes)
        return np.log(total)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """See :class:`Scorer`."""
        return {"examples": self.vectors, "targets": self.targets}

    def settings(self) -> dict[str, float]:
        """See :class:`Scorer`."""
        relative = {"relative": 1} if self.relative else {}
        return {"classes": self.classes, "k": self.k, "sharpness": self.sharpness, "floor": self.floor} | relative

    @classmethod
    def restore(cls, tensors: Tensors, settings: Mapping[str, float]) -> Self:
        """See :class:`Scorer`."""
        numbers = settings["sharpness"], settings["floor"]
        counts = int(settings["classes"]), int(settings["k"])
        return cls(tensors["examples"], tensors["targets"], *counts, *numbers, bool(settings.get("relative", 0)))


@dataclass(frozen=True, eq=False)
class Hierarchy(Scorer):
    """Log-probabilities of leaves: that of the parent, and that of the leaf among its siblings.

    :param parents: scores of the parents.
    :param leaves: scores of the leaves.
    :param parent_of: number of each leaf's parent, int32 of shape (n_outputs,).
    """

    parents: Linear
    leaves: Linear
    parent_of: NDArray[np.int32]
    kind: ClassVar[str] = "hierarchical"

    def __post_init__(self) -> None:
        parent_of = frozen_numbers(self.parent_of, "parents", self.parents.n_outputs)
        object.__setattr__(self, "parent_of", parent_of)
        childless = set(range(self.parents.n_outputs)) - set(parent_of.tolist())
        if len(parent_of) != self.leaves.n_outputs or self.parents.dim != self.leaves.dim or childless:
            raise InputError(
                f"The head's hierarchy has {self.leaves.n_outputs} leaves and {len(parent_of)} parents of leaves, "
                f"{len(childless)} parents without a leaf, widths {self.parents.dim} and {self.leaves.dim}: not a tree."
            )

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.parents.dim

    @property
    def n_outputs(self) -> int:
        """Scores per vector."""
        return len(self.parent_of)

    def scores(self, vectors: FloatMatrix) -> NDArray[np.float32]:
        """See :class:`Scorer`."""
        parents = np.log(np.maximum(softmax(self.parents.scores(vectors)), 1e-30))
        leaves = self.leaves.scores(vectors)
        for parent in range(self.parents.n_outputs):
            siblings = self.parent_of == parent
            leaves[:, siblings] -= log_sum_exp(leaves[:, siblings])[:, None]
        scores: NDArray[np.float32] = parents[:, self.parent_of] + leaves
        return scores

    def tensors(self) -> dict[str, NDArray[Any]]:
        """See :class:`Scorer`."""
        above, below = self.parents, self.leaves
        return {
            "parents.weights": above.weights,
            "parents.bias": above.bias,
            "leaves.weights": below.weights,
            "leaves.bias": below.bias,
            "parent_of": self.parent_of,
        }

    @classmethod
    def restore(cls, tensors: Tensors, settings: Mapping[str, float]) -> Self:
        """See :class:`Scorer`."""
        above = Linear(tensors["parents.weights"], tensors["parents.bias"])
        below = Linear(tensors["leaves.weights"], tensors["leaves.bias"])
        return cls(above, below, tensors["parent_of"])


SCORERS: dict[str, type[Scorer]] = {kind.kind: kind for kind in (Linear, Layers, Neighbors, Hierarchy)}
"""Every kind of scorer by the name that files give it."""
