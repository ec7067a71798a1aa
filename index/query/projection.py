"""A collection's vectors projected to two dimensions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.query.view import View
from index.results import DocumentId

_AT_ONCE = 2000
_SAMPLE = 20_000  # vectors that the directions are found from


class Projection(NamedTuple):
    """Principal components of the stored vectors.

    :ivar sequence: of the write after which it was made.
    :ivar ids: of the documents, ``metadata`` theirs, in the order of the points.
    :ivar points: float32 of shape (n, 2).
    :ivar mean: float32 of shape (dim,); ``axes`` is (dim, 2): another vector's place is (vector - mean) @ axes.
    """

    sequence: int
    ids: list[DocumentId]
    metadata: list[dict[str, Any]]
    points: NDArray[np.float32]
    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    def place(self, vectors: FloatMatrix) -> NDArray[np.float32]:
        """Where vectors (n, dim) lie among the points: float32 of shape (n, 2)."""
        placed: NDArray[np.float32] = ((vectors - self.mean) @ self.axes).astype(np.float32)
        return placed


def project(view: View) -> Projection:
    """The two directions in which the vectors differ most, and all of them along these."""
    rows = view.rows.tolist()
    ids, metadata, kept = [], [], []
    for start in range(0, len(rows), _AT_ONCE):
        part = view.reader.by_rows(rows[start : start + _AT_ONCE], some=True)
        for row in rows[start : start + _AT_ONCE]:
            if row in part:
                ids.append(part[row].id)
                metadata.append(part[row].metadata)
                kept.append(row)
    vectors = view.vectors_of(kept)
    mean, axes = _principal(vectors, view.about.dim)
    points = ((vectors - mean) @ axes).astype(np.float32)
    return Projection(view.sequence, ids, metadata, points, mean, axes)


def _principal(vectors: FloatMatrix, dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if len(vectors) < 2:
        mean = vectors[0] if len(vectors) else np.zeros(dim, dtype=np.float32)
        return mean, np.eye(dim, 2, dtype=np.float32)
    step = -(-len(vectors) // _SAMPLE)
    sample = vectors[::step]
    mean = sample.mean(axis=0)
    centered = sample - mean
    _, directions = np.linalg.eigh(centered.T @ centered)  # ascending: the last two carry most
    axes = directions[:, : -min(2, dim) - 1 : -1]
    return mean, np.ascontiguousarray(axes, dtype=np.float32)
