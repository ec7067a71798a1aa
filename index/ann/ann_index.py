"""An approximate index over the vectors of a snapshot.

It knows rows, not positions, so that it serves later snapshots too; see :mod:`index.ann.segments`. It is derived: what
is lost is built again from the vectors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.index_types import AnnIndexType
from index.ann.snapshot import Neighbors, Snapshot
from index.ann.tuning import KS, Tuning, tune

_ADDED_AT_ONCE = 1000


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A build was asked to stop."""


class AnnIndex:
    """Made by :meth:`build`, :meth:`grown` or :func:`index.ann.cache.read_graph`; then never changed, and safe for
    threads.

    :ivar index: FAISS's own.
    :ivar rows: int64 (n,), ascending.
    :ivar tuning: what a search spends, and what it was measured to find; the most there is until it is tuned.
    """

    def __init__(self, kind: AnnIndexType, index: Any, rows: NDArray[np.int64], tuning: Tuning | None = None) -> None:
        self.kind, self.index, self.rows = kind, index, rows
        self.tuning = tuning or Tuning(dict.fromkeys(KS, kind.efforts[-1]), {})
        self._made: tuple[tuple[int, int], Any] = (-1, -1), None  # the last search's effort and k, and parameters

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def build(cls, kind: AnnIndexType, snapshot: Snapshot, stop: threading.Event) -> AnnIndex:
        """Build one over all that is alive.

        :raises Stopped: if ``stop`` was set meanwhile.
        """
        positions = np.flatnonzero(snapshot.alive)
        size = min(kind.trained_on(len(positions)), len(positions))
        sample = np.sort(np.random.default_rng(0).permutation(positions)[:size])
        index = kind.make(snapshot.vectors[sample], snapshot.vectors.shape[1], len(positions))
        parts = [kind.assigned(index, vectors) for _, vectors in _parts(snapshot, positions, stop)]
        known = [part for part in parts if part is not None]
        if known:
            kind.reserve(index, np.concatenate(known))
        for number, vectors in _parts(snapshot, positions, stop):
            kind.add(index, vectors, parts[number])
        return cls(kind, index, snapshot.rows[positions])

    def grown(self, snapshot: Snapshot, positions: NDArray[np.int64], stop: threading.Event) -> AnnIndex:
        """A copy with what is at more positions of a snapshot, whose rows are later than all of this one's.

        :raises Stopped: as :meth:`build`.
        """
        import faiss

        index = faiss.clone_index(self.index)
        for _, vectors in _parts(snapshot, positions, stop):
            self.kind.add(index, vectors, self.kind.assigned(index, vectors))
        return AnnIndex(self.kind, index, np.concatenate([self.rows, snapshot.rows[positions]]), self.tuning)

    def tuned(self, snapshot: Snapshot, recall: float, queries: Mapping[str, FloatMatrix]) -> AnnIndex:
        """The same index with the least effort that has a recall; see :func:`index.ann.tuning.tune`.

        :param snapshot: of the same rows, if dead ones are not counted, or more.
        """

        def search(vectors: FloatMatrix, k: int, effort: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            scores, at = self.index.search(vectors, k, params=self.kind.parameters(effort, k))
            return scores, np.where(at >= 0, self.rows[at], -1)

        known = snapshot.up_to(int(self.rows[-1]))
        return AnnIndex(self.kind, self.index, self.rows, tune(search, known, queries, self.kind.efforts, recall))

    def search(self, query: FloatMatrix, k: int, effort: int | None = None) -> Neighbors:
        """The ``k`` nearest to a query (1, dim), alive or not, best first; fewer if it does not reach as many.

        :param effort: None for what it was tuned to.
        """
        scores, at = self.index.search(query, min(k, len(self.rows)), params=self._parameters(k, effort))
        if at[0, -1] >= 0:
            return self.rows[at[0]], scores[0]
        there = at[0] >= 0
        return self.rows[at[0][there]], scores[0][there]

    def _parameters(self, k: int, effort: int | None) -> Any:
        key, (made_for, parameters) = (effort or self.tuning.effort(k), k), self._made
        if key != made_for:  # making them takes as long as a tenth of a search
            parameters = self.kind.parameters(*key)
            self._made = key, parameters
        return parameters


def _parts(
    snapshot: Snapshot, positions: NDArray[np.int64], stop: threading.Event
) -> Iterator[tuple[int, FloatMatrix]]:
    """Vectors (n, dim) a few at a time, with the number of the part."""
    for number, start in enumerate(range(0, len(positions), _ADDED_AT_ONCE)):
        if stop.is_set():
            raise Stopped
        yield number, snapshot.vectors[positions[start : start + _ADDED_AT_ONCE]]
