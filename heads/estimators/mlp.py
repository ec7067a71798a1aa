"""A small multilayer perceptron on vectors, for classes that are not linearly separable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from encoder_tools.errors import InputError
from heads.estimators.linear import is_positive
from heads.estimators.scorer_head import ScoredHead
from heads.selection.regularization import as_logits, few_threads
from heads.serving.scorers import Layers, Linear

_BATCH = 200  # examples that scikit-learn learns from at a time


class MLPHead(ScoredHead):
    """One hidden layer of ReLU units, trained by Adam until the loss stands still.

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; needed for texts; clones share it.
    :param hidden: units of the hidden layer.
    :param alpha: weight of the squared weights in the loss.
    :param class_weight: None, "balanced", or a weight for each class, as in scikit-learn.
    :param max_iter: most passes over the examples.
    :param random_state: seed of the weights and the batches.

    Learnt: ``classes_``, ``scorer_``, ``n_iter_``, ``n_features_in_``, ``fingerprint_``, ``space_``.

    Example:
        >>> import numpy as np
        >>> from heads import MLPHead
        >>> rng = np.random.default_rng(0)
        >>> vectors = rng.normal(size=(200, 4)).astype(np.float32)
        >>> ring = np.linalg.norm(vectors, axis=1) > 2  # which no plane divides
        >>> float(MLPHead(random_state=0, max_iter=1000).fit(vectors, ring).score(vectors, ring)) > 0.8
        True
    """

    def __init__(
        self,
        encoder: Any = None,
        *,
        hidden: int = 256,
        alpha: float = 1e-3,
        class_weight: Any = None,
        max_iter: int = 200,
        random_state: Any = 0,
    ) -> None:
        self.encoder = encoder
        self.hidden = hidden
        self.alpha = alpha
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.random_state = random_state

    def _check_parameters(self) -> None:
        for name in ("hidden", "max_iter"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} is {value!r}, expected an integer of 1 or more.")
        if not is_positive(self.alpha):
            raise InputError(f"alpha is {self.alpha!r}, expected a positive number.")

    def _learn(self, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> None:
        # unit vectors have entries of 1/sqrt(dim), so that steps of Adam's usual size take long to matter
        scale = float(np.sqrt(np.mean(vectors**2))) or 1.0
        model = MLPClassifier(
            (self.hidden,), alpha=self.alpha, max_iter=self.max_iter, random_state=self.random_state, n_iter_no_change=5
        )
        with few_threads(vectors[:_BATCH], self.hidden):
            model.fit(vectors / scale, targets, sample_weight=weights)
        first = Linear(model.coefs_[0].T / scale, model.intercepts_[0])
        second = Linear(as_logits(model.coefs_[1]).T, as_logits(model.intercepts_[1][None, :])[0])
        self.scorer_ = Layers((first, second))
        self.n_iter_ = int(model.n_iter_)
