"""Unit vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from encoder_tools.protocols import FloatMatrix


def unit_rows(vectors: Any) -> FloatMatrix:
    """Each row of (n, dim) divided by its length; a zero row stays zero. float32, C-contiguous.

    Lengths are computed in float64: squares of large float32 numbers overflow, those of small ones vanish.
    """
    matrix = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)  # (n, 1)
    return np.ascontiguousarray(matrix / np.where(norms > 0, norms, 1), dtype=np.float32)
