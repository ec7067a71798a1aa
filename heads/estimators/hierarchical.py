"""Hierarchical labels: first the parent, then its children, as one probability."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from encoder_tools.errors import InputError
from heads.estimators.linear import LinearHead
from heads.estimators.scorer_head import ScoredHead
from heads.serving.scorers import Hierarchy, Linear

_NEVER = -1.0  # a lone child's score matters to nobody: it has all of its parent's probability


class HierarchicalHead(ScoredHead):
    """Logistic regressions for the parents, and for the children of each parent among themselves.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.
    :param parents: name of the parent of each label; None takes what stands before ``separator`` in the label.
    :param separator: between parent and child in labels such as "LOC:city".
    :param class_weight: None, "balanced", or a weight for each label, as in scikit-learn.
    :param random_state: seed of the splits that choose the regularization.

    Learnt: ``classes_`` (the leaves), ``parents_`` (their distinct parents), ``scorer_``, ``n_features_in_``,
    ``fingerprint_``, ``space_``.

    Example:
        >>> import numpy as np
        >>> from heads import HierarchicalHead
        >>> vectors = np.tile(np.eye(3, dtype=np.float32), (8, 1))
        >>> head = HierarchicalHead().fit(vectors, ["LOC:city", "LOC:river", "NUM:date"] * 8)
        >>> head.predict(vectors[:1]).tolist()
        ['LOC:city']
    """

    scorer_: Hierarchy

    def __init__(
        self,
        encoder: Any = None,
        *,
        parents: Any = None,
        separator: str = ":",
        class_weight: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.encoder = encoder
        self.parents = parents
        self.separator = separator
        self.class_weight = class_weight
        self.random_state = random_state

    def parent_proba(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Probabilities of the parents, shape (n, n_parents)."""
        leaves = self.predict_proba(X)
        total = np.zeros((len(leaves), len(self.parents_)))
        np.add.at(total.T, self.scorer_.parent_of, leaves.T)
        return total

    def _check_parameters(self) -> None:
        if self.parents is not None and not isinstance(self.parents, dict):
            raise InputError(f"parents is a {type(self.parents).__name__}, expected a dict from label to parent.")
        if not isinstance(self.separator, str) or not self.separator:
            raise InputError(f"separator is {self.separator!r}, expected a text such as ':'.")

    def _learn(self, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> None:
        names = [self._parent_of(label) for label in self.classes_.tolist()]
        self.parents_, parent_of = np.unique(np.array(names), return_inverse=True)
        rng = check_random_state(self.random_state)
        seeds = rng.randint(2**31, size=len(self.parents_) + 1)
        above = _fitted(vectors, parent_of[targets], weights, len(self.parents_), int(seeds[-1]))
        coef = np.zeros((len(self.classes_), vectors.shape[1]))
        bias = np.full(len(self.classes_), _NEVER)
        for parent in range(len(self.parents_)):
            children = np.flatnonzero(parent_of == parent)
            inside = np.isin(targets, children)
            own = None if weights is None else weights[inside]
            local = np.searchsorted(children, targets[inside])
            below = _fitted(vectors[inside], local, own, len(children), int(seeds[parent]))
            coef[children], bias[children] = below.weights, below.bias
        self.scorer_ = Hierarchy(above, Linear(coef, bias), parent_of.astype(np.int32))

    def _parent_of(self, label: Any) -> str:
        if self.parents is None:
            return str(label).split(self.separator, 1)[0]
        if label not in self.parents:
            raise InputError(f"parents has no entry for label {label!r}. Name its parent.")
        return str(self.parents[label])


def _fitted(vectors: NDArray[Any], targets: NDArray[Any], weights: Any, n: int, seed: int) -> Linear:
    if n == 1:
        return Linear(np.zeros((1, vectors.shape[1])), np.zeros(1))
    head = LinearHead(random_state=seed).fit(vectors, targets, weights).to_fitted()
    assert isinstance(head.scorer, Linear)  # noqa: S101  what a linear head gives
    return head.scorer
