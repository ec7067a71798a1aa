"""The nearest class mean and nearest neighbors: heads that take a new example without a new fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from encoder_tools.errors import InputError
from encoder_tools.vectors import unit_rows
from heads.estimators.scorer_head import ScoredHead
from heads.selection.regularization import fit_temperature
from heads.serving.scorers import Linear, Neighbors

_NEIGHBOURS = (1, 3, 5, 10, 20, 50)
# The first is plain voting, in which nearness decides between equal numbers of votes alone.
_SHARPNESSES = (0.01, 5.0, 10.0, 20.0, 40.0, 80.0)
_FLOOR = 1e-3
_MOST_JUDGED = 5000


class PrototypeHead(ScoredHead):
    """Nearest class mean by cosine (Snell et al., NeurIPS 2017), its temperature fitted with each example left out.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.

    Learnt: ``classes_``, ``prototypes_`` (n_classes, dim), ``temperature_``, ``n_features_in_``, ``fingerprint_``,
    ``space_``.

    Example:
        >>> import numpy as np
        >>> from heads import PrototypeHead
        >>> PrototypeHead().fit(np.eye(4, dtype=np.float32), [0, 0, 1, 1]).predict(np.eye(4)[[3]]).tolist()
        [1]
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
        sampled = several if len(several) else np.arange(len(targets))
        sampled = sampled[:: -(-len(sampled) // _MOST_JUDGED)]  # evenly over the classes: examples come in their order
        own, truth, share = unit[sampled], targets[sampled], shares[sampled]
        cosines = own @ self.prototypes_.T
        left = unit_rows((sums[truth] - share[:, None] * own).astype(np.float32))  # the class without the example
        cosines[np.arange(len(truth)), truth] = np.einsum("ij,ij->i", own, left)
        self.temperature_ = fit_temperature(cosines, truth, share)[0]
        weight = np.float32(self.temperature_) * self.prototypes_
        self.scorer_ = Linear(weight, np.zeros(len(weight), dtype=np.float32))


class NeighborHead(ScoredHead):
    """Vote of the nearest examples by cosine, exact; k and the sharpness of the vote chosen with each example left out.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.
    :param k: how many vote; None chooses.
    :param random_state: seed of the examples that are judged where there are many.

    Learnt: ``classes_``, ``k_``, ``sharpness_``, ``scorer_``, ``n_features_in_``, ``fingerprint_``, ``space_``.

    Example:
        >>> import numpy as np
        >>> from heads import NeighborHead
        >>> NeighborHead().fit(np.eye(4, dtype=np.float32), [0, 0, 1, 1]).predict(np.eye(4)[[3]]).tolist()
        [1]
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
        sampled = np.sort(rng.permutation(len(unit))[:_MOST_JUDGED])
        cosines = unit[sampled] @ unit.T
        cosines[np.arange(len(sampled)), sampled] = -2  # nobody votes for itself
        most = len(unit) - 1
        if self.k is None:  # more than half of a class's examples would outvote the class that one is left out of
            most = min(most, -(-len(unit) // (2 * classes)))
        ks = sorted({min(k, max(most, 1)) for k in (_NEIGHBOURS if self.k is None else (self.k,))})
        order = np.argsort(-cosines, axis=1, kind="stable")[:, : max(ks)]
        truth = targets[sampled]
        best: tuple[float, int, float] | None = None
        for k in ks:
            near = np.take_along_axis(cosines, order[:, :k], axis=1)
            plain, loss, sharpness = None, np.inf, _SHARPNESSES[0]
            for candidate in _SHARPNESSES:
                votes = np.full((len(sampled), classes), _FLOOR)
                rows = np.arange(len(sampled))
                np.add.at(votes, (rows[:, None], targets[order[:, :k]]), np.exp(candidate * (near - near[:, :1])))
                losses = -np.log(votes[rows, truth] / votes.sum(axis=1))
                right = votes.argmax(axis=1) == truth
                plain = (losses, right) if plain is None else plain
                if losses.mean() < loss and (candidate == _SHARPNESSES[0] or _is_better(losses, right, *plain)):
                    loss, sharpness = float(losses.mean()), candidate
            best = (loss, k, sharpness) if best is None or loss < best[0] else best
        _, self.k_, self.sharpness_ = best or (0.0, ks[0], _SHARPNESSES[0])
        self.scorer_ = Neighbors(unit, targets, classes, int(self.k_), float(self.sharpness_), _FLOOR)


def _is_better(
    losses: NDArray[Any], right: NDArray[np.bool_], plain_losses: NDArray[Any], plain_right: NDArray[np.bool_]
) -> bool:
    """Whether votes by nearness are better than plain ones, and not by chance: by twice a standard error."""
    gains = plain_losses - losses
    certain = gains.mean() > 2 * gains.std() / np.sqrt(len(gains))
    return bool(certain and right.sum() >= plain_right.sum())
