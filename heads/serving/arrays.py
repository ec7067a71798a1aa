"""Arrays of a fitted head: checked once, then read-only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix


def frozen_floats(values: ArrayLike, name: str, *, ndim: int) -> NDArray[np.float32]:
    """``values`` as read-only float32.

    :raises InputError: unless they are finite and have ``ndim`` dimensions.
    """
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=np.float32, order="C")
    if array.ndim != ndim or not np.isfinite(array).all():
        raise InputError(f"The head's {name} have shape {array.shape}, expected {ndim} dimension(s) of finite numbers.")
    array.flags.writeable = False
    return array


def frozen_numbers(values: ArrayLike, name: str, below: int) -> NDArray[np.int32]:
    """``values`` (n,) as read-only int32, each at least 0 and below ``below``.

    :raises InputError: otherwise.
    """
    values_ = np.asarray(values)
    if (
        values_.ndim != 1
        or values_.dtype.kind not in "iu"
        or not len(values_)
        or values_.min() < 0
        or values_.max() >= below
    ):
        raise InputError(f"The head's {name} have shape {values_.shape}, expected integers from 0 to {below - 1}.")
    array = values_.astype(np.int32)
    array.flags.writeable = False
    return array


def checked_vectors(vectors: ArrayLike, dim: int) -> FloatMatrix:
    """``vectors`` as float32 of shape (n, dim).

    :raises InputError: if they are not a finite numeric matrix of that width.
    """
    try:
        matrix = np.asarray(vectors)
    except ValueError:
        raise InputError(f"The vectors differ in width, expected (n, {dim}).") from None
    if matrix.dtype.kind not in "fiu":
        raise InputError(f"Vectors are of type {matrix.dtype}, expected numbers: encode texts first.")
    if matrix.ndim != 2 or matrix.shape[1] != dim:
        raise InputError(f"Vectors have shape {matrix.shape}, expected (n, {dim}) as the head was fitted.")
    with np.errstate(over="ignore"):
        matrix = matrix.astype(np.float32, copy=False)
    broken = ~np.isfinite(matrix).all(axis=1)
    if broken.any():
        raise InputError(f"Vector {int(broken.argmax())} holds NaN or infinity, expected finite numbers.")
    return matrix


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """Probabilities along the last axis, of the scores' type."""
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: NDArray[Any] = exponents / exponents.sum(axis=-1, keepdims=True)
    return shares


def log_sum_exp(scores: NDArray[Any]) -> NDArray[Any]:
    """Logarithm of the sum of exponentials along the last axis, without overflow."""
    highest = scores.max(axis=-1)
    total: NDArray[Any] = highest + np.log(np.exp(scores - highest[..., None]).sum(axis=-1))
    return total


def sigmoid(scores: NDArray[Any]) -> NDArray[Any]:
    """The logistic function, without overflow."""
    shares: NDArray[Any] = 0.5 * (1 + np.tanh(0.5 * scores))
    return shares
