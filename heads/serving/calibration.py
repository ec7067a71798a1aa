"""Calibrated probabilities from scores; numpy only. How one is chosen: ``heads.selection.calibrator``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError
from heads.serving.arrays import frozen_floats, sigmoid, softmax

Link: TypeAlias = Literal["softmax", "sigmoid", "identity"]
"""One label of several, any number of labels, or a number."""
Method: TypeAlias = Literal["temperature", "platt", "isotonic"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """``link(factor * scores + bias)``, then a monotone curve through (``grid``, ``values``) if there is one.

    :param method: "temperature" has a factor alone (Guo et al., ICML 2017), "platt" a bias per label as well (Platt
        1999; for several: bias-corrected temperature scaling, Alexandari et al., ICML 2020), "isotonic" a factor
        and one curve for the probabilities of all labels, that then add up to one again (Zadrozny & Elkan, KDD 2002).
    :param bias: float32 of shape (n_labels,).
    :param grid: probabilities, ascending, of shape (m,).
    :param values: what they are replaced by, not descending, of shape (m,).
    """

    method: Method = "temperature"
    factor: float = 1.0
    bias: NDArray[np.float32] | None = None
    grid: NDArray[np.float32] | None = None
    values: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.method not in ("temperature", "platt", "isotonic"):
            raise InputError(f"Calibration {self.method!r} is not known, expected temperature, platt or isotonic.")
        if not 0 < self.factor < np.inf:
            raise InputError(f"The calibration's factor is {self.factor}, expected a positive number.")
        for name in ("bias", "grid", "values"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, frozen_floats(getattr(self, name), name, ndim=1))
        if (self.bias is not None) != (self.method == "platt") or (self.grid is not None) != (
            self.method == "isotonic"
        ):
            raise InputError(f"Calibration {self.method!r} lacks its arrays or holds those of another method.")
        if self.grid is not None and not self._is_curve():
            raise InputError("The calibration's curve is not one of ascending probabilities. Fit the head again.")

    def _is_curve(self) -> bool:
        grid, values = self.grid, self.values
        if grid is None or values is None or len(grid) != len(values) or not len(grid):
            return False
        inside = min(grid.min(), values.min()) >= 0 and max(grid.max(), values.max()) <= 1
        return bool(inside and (np.diff(grid) > 0).all() and (np.diff(values) >= 0).all())

    def probabilities(self, scores: NDArray[np.float32], link: Link) -> NDArray[np.float32]:
        """Probabilities of the scores' shape (n, n_labels)."""
        logits = np.float32(self.factor) * scores
        if self.bias is not None:
            logits = logits + self.bias
        probabilities: NDArray[np.float32] = softmax(logits) if link == "softmax" else sigmoid(logits)
        if self.grid is not None and self.values is not None:
            probabilities = np.interp(probabilities, self.grid, self.values).astype(np.float32)
            if link == "softmax":
                probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), np.float32(1e-12))
        return probabilities

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Its arrays, by name."""
        named = {"bias": self.bias, "grid": self.grid, "values": self.values}
        return {name: array for name, array in named.items() if array is not None}


UNCALIBRATED = Calibration()
"""Scores as they are."""
