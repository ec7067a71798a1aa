"""Estimators whose fitted part is a scorer: what they predict is exactly what is served."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heads.estimators.base import ClassifierHead
from heads.serving.fitted_head import FittedHead
from heads.serving.scorers import Scorer


class ScoredHead(ClassifierHead):
    """A classifier that learns ``scorer_``, in float32."""

    scorer_: Scorer

    def decision_function(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Scores of shape (n, n_classes), or (n,) for two classes, as scikit-learn has it.

        :raises InputError: for wrong input.
        :raises FingerprintError: if the encoder was replaced after ``fit``.
        """
        vectors = self._vectors(X)
        scores: NDArray[Any] = self.scorer_.scores(vectors.astype(np.float32, copy=False))
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def to_fitted(self, *, fingerprint: str | None = None) -> FittedHead:
        """What serving needs, without scikit-learn.

        :param fingerprint: of the model that made the vectors, where the head was fitted without an encoder.
        :raises InputError: if ``fingerprint`` contradicts the encoder's, or a label is neither text nor number.
        """
        mark = self._mark(fingerprint)
        return FittedHead(self.scorer_, tuple(self.classes_.tolist()), mark, self.space_)
