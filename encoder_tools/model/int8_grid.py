"""Matrices on an int8 grid: integers and one fp32 scale per row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEPS = 127


def to_grid(weights: NDArray[np.float32], axis: int = 0) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with one scale per slice along ``axis``; scale = max|slice| / 127.

    Applied to its own result it changes nothing beyond rounding of the last bit: a slice's largest weight is 127 times
    its scale.

    :param weights: of shape (rows, columns).
    :return: integers of the same shape, and scales that broadcast against it.
    """
    peak = np.abs(weights).max(axis=1 - axis, keepdims=True)
    scale = (peak / np.float32(STEPS)).astype(np.float32)
    scale[scale == 0] = 1
    return np.clip(np.rint(weights / scale), -STEPS, STEPS).astype(np.int8), scale
