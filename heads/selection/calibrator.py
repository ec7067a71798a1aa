"""Choice of the calibration by held-out log-loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from heads.metrics import log_loss
from heads.selection.regularization import fit_temperature
from heads.serving.arrays import softmax
from heads.serving.calibration import Calibration

_FOLDS = 5
_PULL = 1.0  # of the biases towards zero, in examples
_LEAST_GAIN = 0.002  # nats that a method with more freedom must win by
_FEWEST = 50  # examples, below which only a temperature is found


def choose_calibration(scores: NDArray[Any], targets: NDArray[np.intp], rng: np.random.RandomState) -> Calibration:
    """Temperature, Platt or isotonic: the one with the least log-loss in five folds of held-out examples.

    Of fewer than fifty examples, or fewer than there are classes, only a temperature is found: the others would learn
    those few (overfit).

    :param scores: of examples that the head was not fitted on, shape (n, n_classes).
    :param targets: their class numbers, shape (n,).
    """
    if len(targets) < max(_FEWEST, scores.shape[1]):
        return _temperature(scores, targets)
    fold = rng.permutation(len(targets)) % _FOLDS
    losses = {method: 0.0 for method in _METHODS}
    for number in range(_FOLDS):
        held = fold == number
        for method, fit in _METHODS.items():
            probabilities = fit(scores[~held], targets[~held]).probabilities(scores[held].astype(np.float32), "softmax")
            losses[method] += held.sum() * log_loss(probabilities, targets[held]) / len(targets)
    best = min(losses, key=lambda method: losses[method] + (0 if method == "temperature" else _LEAST_GAIN))
    return _METHODS[best](scores, targets)


def _temperature(scores: NDArray[Any], targets: NDArray[np.intp]) -> Calibration:
    return Calibration("temperature", fit_temperature(scores, targets)[0])


def _platt(scores: NDArray[Any], targets: NDArray[np.intp]) -> Calibration:
    n, classes = scores.shape
    hits = np.zeros((n, classes))
    hits[np.arange(n), targets] = 1

    def loss(parameters: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        factor, bias = np.exp(parameters[0]), parameters[1:]
        probabilities = softmax(factor * scores + bias)
        slope = (probabilities - hits) / n
        pull = _PULL / n
        value = log_loss(probabilities, targets) + 0.5 * pull * float(bias @ bias)
        return value, np.append(factor * (slope * scores).sum(), slope.sum(axis=0) + pull * bias)

    start = np.zeros(classes + 1)
    start[0] = np.log(fit_temperature(scores, targets)[0])
    solution = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
    return Calibration("platt", float(np.exp(solution[0])), solution[1:])


def _isotonic(scores: NDArray[Any], targets: NDArray[np.intp]) -> Calibration:
    factor = fit_temperature(scores, targets)[0]
    probabilities = softmax(factor * scores)
    hits = np.zeros(probabilities.shape)
    hits[np.arange(len(targets)), targets] = 1
    curve = IsotonicRegression(y_min=1 / (2 * hits.size), y_max=1.0, out_of_bounds="clip")
    curve.fit(probabilities.ravel(), hits.ravel())
    grid, first = np.unique(curve.X_thresholds_.astype(np.float32), return_index=True)
    return Calibration("isotonic", factor, None, np.clip(grid, 0, 1), np.clip(curve.y_thresholds_[first], 0, 1))


_METHODS = {"temperature": _temperature, "platt": _platt, "isotonic": _isotonic}
