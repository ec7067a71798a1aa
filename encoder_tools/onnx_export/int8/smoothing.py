"""How activations are smoothed before they are quantized, and how much error is left.

A tensor that is quantized with one scale loses what is small where one channel is large. Dividing each channel by a
number, and multiplying the matrix's row of that channel by it, leaves the product as it is and moves the difficulty
into the matrix, whose columns have scales of their own.

Source: Xiao et al., "SmoothQuant", ICML 2023. Here the strength is chosen for each tensor by the error of its products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.model.int8_grid import to_grid
from encoder_tools.onnx_export.int8.samples import Sample

_STRENGTHS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
_LEVELS = 255
_SMALLEST = 1e-5  # of what a channel is divided by, relative to its tensor


class Smoothing(NamedTuple):
    """What to do with one tensor.

    :ivar divisors: float32 by channel; None to leave it as it is.
    :ivar errors: relative squared error of each product: with the divisors, and without.
    """

    divisors: NDArray[np.float32] | None
    errors: Sequence[float]
    plain_errors: Sequence[float]

    @property
    def gain(self) -> float:
        """By how much the divisors lower the error."""
        return sum(self.plain_errors) / max(sum(self.errors), 1e-30)


def choose_smoothing(sample: Sample, matrices: Sequence[NDArray[np.float32]]) -> Smoothing:
    """The strength of smoothing with the smallest error.

    :param matrices: of the products that take the tensor, each of shape (inputs, outputs).
    """
    expected = [sample.rows @ matrix for matrix in matrices]
    plain = _errors(sample, None, matrices, expected)
    best = Smoothing(None, plain, plain)
    if not sum(plain) > 0:
        return best
    peak = np.maximum(-sample.lowest, sample.highest)
    weight = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
    peak, weight = (np.maximum(part, _SMALLEST * max(float(part.max()), 1e-30)) for part in (peak, weight))
    for strength in _STRENGTHS:
        divisors = (peak**strength / weight ** (1 - strength)).astype(np.float32)
        errors = _errors(sample, divisors, matrices, expected)
        if sum(errors) < sum(best.errors):
            best = Smoothing(divisors, errors, plain)
    return best


def _errors(
    sample: Sample,
    divisors: NDArray[np.float32] | None,
    matrices: Sequence[NDArray[np.float32]],
    expected: Sequence[NDArray[np.float32]],
) -> list[float]:
    divided = Sample(*(part / divisors for part in sample)) if divisors is not None else sample
    rows = _quantized(divided)
    errors = []
    for matrix, right in zip(matrices, expected, strict=True):
        integers, scale = to_grid(matrix if divisors is None else matrix * divisors[:, None], axis=1)
        difference = rows @ (integers * scale) - right
        errors.append(float((difference**2).sum() / max(float((right**2).sum()), 1e-30)))
    return errors


def _quantized(sample: Sample) -> NDArray[np.float32]:
    """What ONNX's DynamicQuantizeLinear makes of the rows: uint8 with one scale, zero among the levels."""
    lowest, highest = min(0.0, float(sample.lowest.min())), max(0.0, float(sample.highest.max()))
    scale = np.float32(max((highest - lowest) / _LEVELS, 1e-30))
    zero = np.rint(-lowest / scale)
    levels: NDArray[np.float32] = np.clip(np.rint(sample.rows / scale) + zero, 0, _LEVELS)
    rows: NDArray[np.float32] = (levels - zero) * scale
    return rows
