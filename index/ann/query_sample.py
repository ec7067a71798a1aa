"""A bounded sample of recent query vectors, which the index is tuned with.

The count is bounded, so that newer queries replace older ones.

Source: Vitter, "Random Sampling with a Reservoir", 1985.
"""

from __future__ import annotations

import threading
from random import Random

import numpy as np

from encoder_tools.protocols import FloatMatrix

CAPACITY = 256
_BOUND = 20_000  # queries after which a new one has the same chance as the one before
_CHANGED_SHARE, _LEAST = 0.2, 30


class RecentQueries:
    """Safe for threads.

    :param keep: False remembers nothing.
    """

    def __init__(self, dim: int, *, keep: bool) -> None:
        self._lock, self._keep = threading.Lock(), keep
        self._vectors: FloatMatrix = np.empty((CAPACITY if keep else 0, dim), dtype=np.float32)
        self._count = self._seen = self._changed = 0
        self._random = Random()  # noqa: S311 - a sample, no secret

    def add(self, queries: FloatMatrix) -> None:
        """Remember some of these unit vectors (n, dim)."""
        if not self._keep:
            return
        with self._lock:
            for query in queries:
                self._seen = min(self._seen + 1, _BOUND)
                position = self._count if self._count < CAPACITY else int(self._random.random() * self._seen)
                if position < CAPACITY:
                    self._vectors[position] = query
                    self._count, self._changed = max(self._count, position + 1), self._changed + 1

    def sample(self) -> FloatMatrix:
        """Those that are remembered, a copy (n, dim)."""
        with self._lock:
            return self._vectors[: self._count].copy()

    def restore(self, queries: FloatMatrix) -> None:
        """Remember what was saved, behind what has come since."""
        if not self._keep:
            return
        with self._lock:
            room = min(CAPACITY - self._count, len(queries))
            self._vectors[self._count : self._count + room] = queries[:room]
            self._count, self._seen = self._count + room, self._seen + room

    def measured(self) -> None:
        """What is remembered now was measured with."""
        with self._lock:
            self._changed = 0

    @property
    def changed(self) -> bool:
        """Whether enough is new since then, to measure again."""
        return self._count >= _LEAST and self._changed >= max(_LEAST, _CHANGED_SHARE * self._count)
