"""Matrices on an int8 grid: integers and one fp32 scale per row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEPS = 127
_BLOCK = 1 << 22  # numbers that are worked on at a time


def to_grid(weights: NDArray[np.float32], axis: int = 0) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with one scale per slice along ``axis``; scale = max|slice| / 127.

    Applied to its own result it changes nothing beyond rounding of the last bit: a slice's largest weight is 127 times
    its scale.

    :param weights: of shape (rows, columns).
    :return: integers of the same shape, and scales that broadcast against it.
    """
    rows = max(1, _BLOCK // max(1, weights.shape[1]))
    blocks = [weights[start : start + rows] for start in range(0, len(weights), rows)]
    if axis == 0:
        peak = np.concatenate([np.abs(block).max(axis=1, keepdims=True) for block in blocks])
    else:
        peak = np.max([np.abs(block).max(axis=0, keepdims=True) for block in blocks], axis=0)
    scale = (peak / np.float32(STEPS)).astype(np.float32)
    scale[scale == 0] = 1
    integers = np.empty(weights.shape, dtype=np.int8)
    for number, block in enumerate(blocks):  # a word table of a gigabyte is never in memory three times
        part = slice(number * rows, number * rows + len(block))
        integers[part] = np.clip(np.rint(block / (scale[part] if axis == 0 else scale)), -STEPS, STEPS)
    return integers, scale
