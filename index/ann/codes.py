"""Vectors as int8 beside float32, for an exact search that reads a quarter of the memory.

A vector is a scale times its codes, and a residual whose length is kept. By the inequality of Cauchy and Schwarz a
product of codes then differs from the cosine by no more than a bound that is known for each row. So a first pass over
the codes says which rows cannot be among the nearest; the others, a few of a hundred, are compared in float32, and the
result is that of a search through all of them.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import simsimd
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.snapshot import Neighbors, Snapshot, best_of, grown

LEAST = 512
"""Rows from which a first pass is worth its overhead."""
_ROUNDING = 1e-5  # of float32 sums, and of the bounds themselves
_AT_ONCE = 4096  # rows that are coded together
_IN_BACKGROUND = 20_000  # rows from which on coding is left to a thread: it takes two microseconds a row


class Codes(NamedTuple):
    """Rows as int8.

    :ivar codes: int8 (n, dim).
    :ivar scales: float32 (n,); a row is about its scale times its codes.
    :ivar residuals: float32 (n,): the length of what that leaves.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    residuals: NDArray[np.float32]

    def grown(self, known: int, count: int) -> Codes:
        """With room for so many rows; see :func:`index.ann.snapshot.grown`."""
        return Codes(
            grown(self.codes, known, count), grown(self.scales, known, count), grown(self.residuals, known, count)
        )

    def first(self, count: int) -> Codes:
        """A view of the first rows."""
        return Codes(self.codes[:count], self.scales[:count], self.residuals[:count])

    def at(self, positions: NDArray[np.int64]) -> Codes:
        """A copy of some rows."""
        return Codes(*(part.take(positions, axis=0) for part in (self.codes, self.scales, self.residuals)))  # type: ignore[arg-type]

    def put(self, start: int, rows: Codes) -> None:
        """Write rows from a place on."""
        end = start + len(rows.scales)
        self.codes[start:end], self.scales[start:end], self.residuals[start:end] = rows


def coded(vectors: FloatMatrix) -> Codes:
    """Code rows (n, dim)."""
    scales = np.abs(vectors).max(axis=1) / np.float32(127)
    scales[scales == 0] = 1
    codes = np.rint(vectors / scales[:, None]).astype(np.int8)
    left = vectors - codes * scales[:, None]
    return Codes(codes, scales, np.sqrt(np.einsum("ij,ij->i", left, left)))


def nearest_coded(
    queries: FloatMatrix, k: int, snapshot: Snapshot, codes: Codes, positions: NDArray[np.int64]
) -> list[Neighbors]:
    """As :meth:`Snapshot.nearest` of the rows at some positions, ascending and alive, by a first pass over codes."""
    if len(positions) < max(LEAST, 4 * k):
        return compared(queries, k, snapshot, positions)
    taken = codes.at(positions)
    asked = coded(np.ascontiguousarray(queries))
    # |q.x - approximation| <= |q.residual of x| + |residual of q . coded x|, and |q| = 1, |coded x| <= 1 + its residual
    bounds = taken.residuals + _ROUNDING
    found = []
    for number, query in enumerate(queries):
        products = np.asarray(simsimd.cdist(asked.codes[number : number + 1], taken.codes, "dot"))[0]
        scores = products.astype(np.float32) * (taken.scales * asked.scales[number])
        bound = bounds + asked.residuals[number] * (1 + bounds)
        lower = scores - bound
        sure = np.partition(lower, len(lower) - k)[len(lower) - k]  # k rows are at least as near as this
        possible = np.flatnonzero(scores + bound >= sure)
        found += compared(query[None], k, snapshot, positions[possible])
    return found


def compared(queries: FloatMatrix, k: int, snapshot: Snapshot, positions: NDArray[np.int64]) -> list[Neighbors]:
    """As :meth:`Snapshot.nearest` of the rows at some positions, ascending and alive."""
    vectors, rows = snapshot.vectors.take(positions, axis=0), snapshot.rows[positions]
    rankings = []
    for query in queries:
        # A product of matrices rounds a row otherwise where others stand beside it; the pages of a search, each with
        # its own candidates, would then differ in the last digit. This looks at every row alone.
        cosines = np.einsum("ij,j->i", vectors, query)
        chosen = best_of(cosines, min(k, len(rows)))
        rankings.append((rows[chosen], cosines[chosen]))
    return rankings


class CodedVectors:
    """The codes of a collection's vectors, which grow with them. Safe for threads."""

    def __init__(self) -> None:
        self._lock, self._filling = threading.Lock(), threading.Lock()
        self._generation, self._count = -1, 0
        self._all = coded(np.empty((0, 1), dtype=np.float32))  # until the first vectors
        self._thread: threading.Thread | None = None

    def of(self, snapshot: Snapshot, *, wait: bool = False) -> Codes | None:
        """The codes of a snapshot's rows; None while many of them are being coded, unless one waits for that."""
        codes = self._ready(snapshot)
        if codes is not None:
            return codes
        if wait or self._missing(snapshot) < _IN_BACKGROUND:
            self._fill(snapshot)
            return self._ready(snapshot)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._fill, args=(snapshot,), daemon=True, name="index-codes")
                self._thread.start()
        return None

    def _ready(self, snapshot: Snapshot) -> Codes | None:
        with self._lock:
            count = len(snapshot.rows)
            if snapshot.generation != self._generation or self._count < count:
                return None
            return self._all.first(count)

    def _missing(self, snapshot: Snapshot) -> int:
        with self._lock:
            return len(snapshot.rows) - (self._count if snapshot.generation == self._generation else 0)

    def _fill(self, snapshot: Snapshot) -> None:
        with self._filling:
            with self._lock:
                if snapshot.generation > self._generation:  # searches may hold the codes of the one before
                    self._generation, self._count, self._all = snapshot.generation, 0, coded(snapshot.vectors[:0])
                elif snapshot.generation < self._generation:
                    return  # of vectors that lie elsewhere by now
                start = self._count
            end = len(snapshot.rows)
            if end <= start:
                return
            kept = self._all.grown(start, end)
            for begin in range(start, end, _AT_ONCE):
                stop = min(begin + _AT_ONCE, end)
                kept.put(begin, coded(snapshot.vectors[begin:stop]))
            with self._lock:
                self._all, self._count = kept, end
