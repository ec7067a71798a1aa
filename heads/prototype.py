"""The nearest class mean, and the vote of the nearest examples: heads that take a new example without a new fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from encoder_tools.errors import InputError
from encoder_tools.vectors import unit_rows
from heads.regularisation import fit_temperature
from heads.scored import ScoredHead
from heads.scorers import Linear, Neighbours

_NEIGHBOURS = (1, 3, 5, 10, 20, 50)
_SHARPNESSES = (5.0, 10.0, 20.0, 40.0, 80.0)
_FLOOR = 1e-3
_MOST_JUDGED = 5000


class PrototypeHead(ScoredHead):
    """Nearest class mean by cosine (Snell et al., NeurIPS 2017), its temperature fitted with each example left out.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.

    Learnt: ``classes_``, ``prototypes_`` (n_classes, dim), ``temperature_``, ``n_features_in_``, ``fingerprint_``,
    ``space_``.
    """

    def __init__(self, encoder: Any = None) -> None:
        self.encoder = encoder

    def _check_parameters(self) -> None:
        pass

    def _learn(self, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> None:
        shares = np.ones(len(targets)) if weights is None else weights
        unit = unit_rows(vectors.astype(np.float32))
        sums = np.zeros((len(self.classes_), vectors.shape[1]))
        np.add.at(sums, targets, shares[:, None] * unit)
        self.prototypes_ = unit_rows(sums.astype(np.float32))
        several = np.flatnonzero(np.bincount(targets)[targets] > 1)
        judged = several if len(several) else np.arange(len(targets))
        judged = judged[:: -(-len(judged) // _MOST_JUDGED)]  # evenly over the classes: examples come in their order
        own, truth, share = unit[judged], targets[judged], shares[judged]
        cosines = own @ self.prototypes_.T
        left = unit_rows((sums[truth] - share[:, None] * own).astype(np.float32))  # the class without the example
        cosines[np.arange(len(truth)), truth] = np.einsum("ij,ij->i", own, left)
        self.temperature_ = fit_temperature(cosines, truth, share)[0]
        weight = np.float32(self.temperature_) * self.prototypes_
        self.scorer_ = Linear(weight, np.zeros(len(weight), dtype=np.float32))


class NeighbourHead(ScoredHead):
    """Vote of the nearest examples by cosine, exact; k and the sharpness of the vote chosen with each example left out.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.
    :param k: how many vote; None chooses.
    :param random_state: seed of the examples that are judged where there are many.

    Learnt: ``classes_``, ``k_``, ``sharpness_``, ``scorer_``, ``n_features_in_``, ``fingerprint_``, ``space_``.
    """

    def __init__(self, encoder: Any = None, *, k: int | None = None, random_state: Any = 0) -> None:
        self.encoder = encoder
        self.k = k
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.k is not None and (not isinstance(self.k, int | np.integer) or self.k < 1):
            raise InputError(f"k is {self.k!r}, expected an integer of 1 or more, or None to choose it.")

    def _learn(self, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> None:
        unit = unit_rows(vectors.astype(np.float32))
        classes = len(self.classes_)
        rng = check_random_state(self.random_state)
        judged = np.sort(rng.permutation(len(unit))[:_MOST_JUDGED])
        cosines = unit[judged] @ unit.T
        cosines[np.arange(len(judged)), judged] = -2  # nobody votes for itself
        most = len(unit) - 1
        ks = sorted({min(k, max(most, 1)) for k in (_NEIGHBOURS if self.k is None else (self.k,))})
        order = np.argsort(-cosines, axis=1, kind="stable")[:, : max(ks)]
        best = np.inf
        self.k_, self.sharpness_ = ks[0], _SHARPNESSES[0]
        for k in ks:
            near = np.take_along_axis(cosines, order[:, :k], axis=1)
            for sharpness in _SHARPNESSES:
                votes = np.full((len(judged), classes), _FLOOR)
                np.add.at(
                    votes, (np.arange(len(judged))[:, None], targets[order[:, :k]]), np.exp(sharpness * (near - 1))
                )
                true = votes[np.arange(len(judged)), targets[judged]] / votes.sum(axis=1)
                loss = -np.log(true).mean()
                if loss < best:
                    best, self.k_, self.sharpness_ = loss, k, sharpness
        self.scorer_ = Neighbours(unit, targets, classes, int(self.k_), float(self.sharpness_), _FLOOR)
