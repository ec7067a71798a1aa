"""Vectors as int8, for a first pass that reads a quarter of the memory or less.

A vector is about a step times its codes; what that leaves is no longer than a length that is known. By the inequality
of Cauchy and Schwarz a product of codes then differs from the cosine by no more than a bound. So a first pass over the
codes says which rows cannot be among the nearest; the others, a few of a hundred, are compared in full, and the result
is that of a search through all of them.

The codes of rows that are in a graph are the graph's own; see :mod:`index.ann.hnsw`.
"""

from __future__ import annotations

import threading
from typing import NamedTuple, Protocol

import numpy as np
import simsimd
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.memory.growing import grown
from index.memory.snapshot import Neighbors, Snapshot

LEAST = 512
"""Rows from which a first pass is worth its overhead."""
SAMPLE = 20_000
"""Rows by which the step is chosen, if there are more."""
SHIFT = 128
"""Above the codes, in the bytes of FAISS's 8bit_direct_signed."""
_ROUNDING = 1e-5  # of float32 sums, and of the bounds themselves
_AT_ONCE = 4096  # rows that are coded together
_SCANNED_AT_ONCE = 2**16
_IN_BACKGROUND = 20_000  # rows from which on coding is left to a thread: it takes two microseconds a row
_MOST_SCANNED = 400  # the same by coarse codes, which say less of the last of them
_MOST_READ = 1000  # rows of a search that are read from the database: the best by their codes
_COARSE_SAMPLE = 1000  # rows by which the step of what comes behind coarse codes is chosen
_DEVIATIONS = 6
_USUAL = 1.3  # times the length of a residual that rounding leaves on average


class Coding(NamedTuple):
    """How rows are coded.

    :ivar step: of one.
    :ivar residual: no row is further from its step times its codes.
    """

    step: float
    residual: float


class Scan(Protocol):
    """Codes of another kind, which are all looked at."""

    def nearest(self, query: FloatMatrix, count: int, among: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some ascending numbers of codes that seem nearest to a query (dim,), ascending."""


class SharedCodes(NamedTuple):
    """Codes that a graph has.

    :ivar rows: int64 (m,), ascending.
    :ivar codes: uint8 (m, dim), each of them higher by ``SHIFT``; none where there is a ``scan``.
    :ivar scan: of coarser ones.
    """

    rows: NDArray[np.int64]
    codes: NDArray[np.uint8]
    coding: Coding
    scan: Scan | None = None


def step_for(vectors: FloatMatrix) -> float:
    """A step for vectors like these (n, dim); a value that is larger than all of them is cut."""
    return float(np.abs(vectors).max(initial=0)) / 127 or 1 / 127


def steps_for(vectors: FloatMatrix) -> NDArray[np.float32]:
    """A step for each of some vectors (n, dim)."""
    steps = np.abs(vectors).max(axis=1) / np.float32(127)
    steps[steps == 0] = 1 / 127
    return np.asarray(steps, dtype=np.float32)


def coded(vectors: FloatMatrix, step: float) -> tuple[NDArray[np.int8], float]:
    """Codes (n, dim), and the length of the largest residual."""
    codes = np.rint(vectors * np.float32(1 / step))
    np.clip(codes, -127, 127, out=codes)
    left = vectors - codes * np.float32(step)
    longest = float(np.einsum("ij,ij->i", left, left).max(initial=0)) ** 0.5
    return codes.astype(np.int8), longest


class Codes(NamedTuple):
    """The codes of a snapshot's rows.

    :ivar shared: of the rows before position ``known``.
    :ivar order: where a position's row is in ``shared``; None where it is the position.
    :ivar tail: int8, of the rows from ``known`` on.
    :ivar tail_residual: as :attr:`Coding.residual`.
    """

    shared: SharedCodes
    order: NDArray[np.int32] | None
    known: int
    tail: NDArray[np.int8]
    tail_residual: float

    def in_shared(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the rows at positions before ``known`` are in ``shared``."""
        return positions if self.order is None else self.order[positions].astype(np.int64)

    def products(self, query: NDArray[np.int8], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of a query's codes (1, dim) with those at ascending positions."""
        products = np.empty(len(positions), dtype=np.float32)
        cut = int(np.searchsorted(positions, self.known))
        places = self.in_shared(positions[:cut])
        for start in range(0, cut, _SCANNED_AT_ONCE):
            some = places[start : min(start + _SCANNED_AT_ONCE, cut)]
            taken = self.shared.codes.take(some, axis=0)
            taken ^= SHIFT  # which takes 128 off
            products[start : start + len(some)] = _products(query, taken.view(np.int8))
        for start in range(cut, len(positions), _SCANNED_AT_ONCE):
            later = positions[start : start + _SCANNED_AT_ONCE] - self.known
            products[start : start + len(later)] = _products(query, self.tail.take(later, axis=0))
        return products

    def tail_alone(self) -> Codes:
        """The same, to look at no position before ``known``."""
        return self._replace(shared=self.shared._replace(scan=None))

    def residuals(self, positions: NDArray[np.int64]) -> NDArray[np.float32] | float:
        """Of the rows at ascending positions, at most."""
        if not len(self.tail) or self.tail_residual == self.shared.coding.residual:
            return self.shared.coding.residual
        if not self.known:
            return self.tail_residual
        return np.where(positions < self.known, self.shared.coding.residual, self.tail_residual).astype(np.float32)


def _products(query: NDArray[np.int8], codes: NDArray[np.int8]) -> NDArray[np.float64]:
    products: NDArray[np.float64] = np.asarray(simsimd.cdist(query, codes, "dot"))[0]
    return products


def nearest_coded(
    queries: FloatMatrix, k: int, snapshot: Snapshot, codes: Codes, positions: NDArray[np.int64]
) -> list[Neighbors]:
    """As :meth:`Snapshot.nearest` of the rows at some positions, ascending and alive, by a first pass over codes."""
    held = snapshot.vectors.held
    return [snapshot.compared(query, k, possible(query, k, codes, positions, held=held)) for query in queries]


def possible(
    query: FloatMatrix, k: int, codes: Codes, positions: NDArray[np.int64], *, held: bool
) -> NDArray[np.int64]:
    """Those of some ascending positions that may be among the ``k`` nearest of them to a query (dim,).

    :param held: whether it costs nothing to look at their vectors.
    """
    if len(positions) < max(LEAST, 4 * k):
        return positions
    if codes.shared.scan is not None and codes.known:
        cut = int(np.searchsorted(positions, codes.known))
        later = possible(query, k, codes.tail_alone(), positions[cut:], held=held)
        return np.concatenate([_seeming(query, k, codes, codes.shared.scan, positions[:cut]), later])
    bounds = codes.residuals(positions) + _ROUNDING
    step, of_rows = step_for(query), codes.shared.coding.step
    asked, residual = coded(query[None], step)
    scores = codes.products(asked, positions)
    scores *= np.float32(step * of_rows)
    # |q.x - score| <= |q.residual of x| + |residual of q . coded x|, and |q| = 1, |coded x| <= 1 + its residual
    bound = bounds + residual * (1 + bounds)
    if not held and np.max(bounds) <= _USUAL * of_rows * (len(query) / 12) ** 0.5:  # no value was cut
        bound = blur(np.float32(step), of_rows)
    return positions[_possible(scores, bound, k, held=held)]


def _seeming(query: FloatMatrix, k: int, codes: Codes, scan: Scan, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some positions before ``known`` that seem nearest by coarse codes, as many as are worth reading."""
    most = max(_MOST_SCANNED, 8 * k)
    if len(positions) <= most:
        return positions
    places = codes.in_shared(positions)
    return positions[np.isin(places, scan.nearest(query, most, np.unique(places)))]


def blur(steps: NDArray[np.float32] | np.float32, step: float) -> NDArray[np.float32]:
    """How far a product of codes is from a cosine: six standard deviations of what rounding does.

    :param steps: of queries; ``step``, of rows.
    """
    return np.asarray(_DEVIATIONS * np.sqrt((steps**2 + np.float32(step**2)) / 12) + _ROUNDING, dtype=np.float32)


def _possible(
    scores: NDArray[np.float32], bound: NDArray[np.float32] | float, k: int, *, held: bool
) -> NDArray[np.int64]:
    """Which may be among the ``k`` nearest, ascending; where each must be read, no more than are worth it."""
    lower = scores - bound
    sure = np.partition(lower, len(lower) - k)[len(lower) - k]  # k rows are at least as near as this
    possible = np.flatnonzero(scores + bound >= sure)
    most = max(_MOST_READ, 4 * k)
    if held or len(possible) <= most:
        return possible
    best = np.argpartition(scores[possible], len(possible) - most)[-most:]
    return np.sort(possible[best])


class CodedVectors:
    """The codes of a collection's vectors, which grow with them. Safe for threads."""

    def __init__(self) -> None:
        self._lock, self._filling = threading.Lock(), threading.Lock()
        self._key: tuple[int, SharedCodes | None] = (-1, None)
        self._codes: Codes | None = None
        self._thread: threading.Thread | None = None

    def of(self, snapshot: Snapshot, shared: SharedCodes | None = None, *, wait: bool = False) -> Codes | None:
        """The codes of a snapshot's rows; None while many of them are being coded, unless one waits for that.

        :param shared: codes that a graph has of its first rows.
        """
        codes = self._ready(snapshot, shared)
        if codes is not None:
            return codes
        if wait or self._missing(snapshot, shared) < _IN_BACKGROUND:
            self._fill(snapshot, shared)
            return self._ready(snapshot, shared)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                work = threading.Thread(
                    target=self._fill, args=(snapshot.outside, shared), daemon=True, name="index-codes"
                )
                self._thread = work
                work.start()
        return None

    def _ready(self, snapshot: Snapshot, shared: SharedCodes | None) -> Codes | None:
        with self._lock:
            codes, (generation, of) = self._codes, self._key
            if codes is None or generation != snapshot.generation or of is not shared:
                return None
        count = len(snapshot.rows)
        return codes._replace(tail=codes.tail[: count - codes.known]) if codes.known <= count <= _end(codes) else None

    def _missing(self, snapshot: Snapshot, shared: SharedCodes | None) -> int:
        with self._lock:
            if self._codes is not None and self._key[0] == snapshot.generation and self._key[1] is shared:
                return len(snapshot.rows) - _end(self._codes)
        known = 0 if shared is None else snapshot.count_up_to(int(shared.rows[-1]))
        return len(snapshot.rows) - known

    def _fill(self, snapshot: Snapshot, shared: SharedCodes | None) -> None:
        with self._filling:
            with self._lock:
                generation, of = self._key
                if snapshot.generation < generation:
                    return  # of vectors that lie elsewhere by now
                codes = self._codes if generation == snapshot.generation and of is shared else None
            end = len(snapshot.rows)
            if codes is not None and end <= _end(codes):
                return
            if codes is None or (shared is None and _end(codes) < min(SAMPLE, end / 2)):
                codes = _begun(snapshot, shared)  # anew too where the step was chosen by few
            made, start = codes, _end(codes)
            made = _extended(made, snapshot, start, end)
            with self._lock:
                self._key, self._codes = (snapshot.generation, shared), made


def _end(codes: Codes) -> int:
    return codes.known + len(codes.tail)


def _begun(snapshot: Snapshot, shared: SharedCodes | None) -> Codes:
    """Those that a graph has."""
    if shared is None:
        sample = snapshot.vectors.part(0, min(SAMPLE, len(snapshot.rows)))
        none = SharedCodes(np.empty(0, dtype=np.int64), np.empty((0, 1), dtype=np.uint8), Coding(step_for(sample), 0.0))
        return Codes(none, None, 0, np.empty((0, sample.shape[1]), dtype=np.int8), 0.0)
    known = snapshot.count_up_to(int(shared.rows[-1]))
    rows = snapshot.rows[:known]
    order = None
    if not np.array_equal(
        rows, shared.rows[:known]
    ):  # rows that are not alive need not be there, and are not asked for
        order = np.minimum(np.searchsorted(shared.rows, rows), len(shared.rows) - 1).astype(np.int32)
    if shared.scan is not None:  # later rows are coded in int8 all the same
        sample = snapshot.vectors.part(0, min(_COARSE_SAMPLE, len(snapshot.rows)))
        shared = shared._replace(coding=Coding(step_for(sample), 0.0))
    return Codes(shared, order, known, np.empty((0, shared.codes.shape[1]), dtype=np.int8), 0.0)


def _extended(codes: Codes, snapshot: Snapshot, start: int, end: int) -> Codes:
    """With the rows up to a position. Earlier ones are views of the same buffer."""
    known, residual = codes.known, codes.tail_residual
    whole: NDArray[np.int8] = codes.tail if codes.tail.base is None else codes.tail.base
    tail = grown(whole, start - known, end - known)
    for begin in range(start, end, _AT_ONCE):
        stop = min(begin + _AT_ONCE, end)
        tail[begin - known : stop - known], longest = coded(
            snapshot.vectors.part(begin, stop), codes.shared.coding.step
        )
        residual = max(residual, longest)
    return codes._replace(tail=tail[: end - known], tail_residual=residual)
