"""An approximate index over the vectors of a snapshot.

It knows rows, not positions, so that it serves later snapshots too; see :mod:`index.ann.segments`. It is derived: what
is lost is built again from the vectors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.hnsw_bits import BitScan
from index.ann.index_types import AnnIndexType
from index.ann.tuning import KS, Tuning, tune
from index.memory.codes import SAMPLE, Coding, SharedCodes, blur, coded, step_for, steps_for
from index.memory.snapshot import Neighbors, Snapshot
from index.memory.vectors import RememberedVectors

_ADDED_AT_ONCE = 1000
_ROUNDING = 1e-6
_EXACT_AT_ONCE = 2**21  # numbers of vectors that are compared together


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A build was asked to stop."""


class AnnIndex:
    """Made by :meth:`build`, :meth:`grown` or :func:`index.ann.cache.read_graph`; then never changed, and safe for
    threads.

    :ivar index: FAISS's own.
    :ivar rows: int64 (n,), ascending.
    :ivar coding: of the codes that it is over; None for vectors.
    :ivar tuning: what a search spends, and what it was measured to find; the most there is until it is tuned.
    :ivar path: the file that it is mapped from, if it is.
    """

    def __init__(
        self,
        kind: AnnIndexType,
        index: Any,
        rows: NDArray[np.int64],
        coding: Coding | None,
        tuning: Tuning | None = None,
        path: Path | None = None,
    ) -> None:
        self.kind, self.index, self.rows, self.coding, self.path = kind, index, rows, coding, path
        self.tuning = tuning or Tuning(dict.fromkeys(KS, kind.efforts[-1]), {})
        self._made: tuple[tuple[int, int], Any] = (-1, -1), None  # the last search's effort and k, and parameters

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def codes(self) -> SharedCodes | None:
        """The codes of its rows, if it is over codes."""
        if self.kind.estimates:
            return SharedCodes(self.rows, self.kind.codes(self.index), Coding(0.0, 0.0), BitScan(self.index))
        return None if self.coding is None else SharedCodes(self.rows, self.kind.codes(self.index), self.coding)

    @classmethod
    def build(cls, kind: AnnIndexType, snapshot: Snapshot, stop: threading.Event) -> AnnIndex:
        """Build one over all that is alive.

        :raises Stopped: if ``stop`` was set meanwhile.
        """
        positions = np.flatnonzero(snapshot.alive)
        size = min(SAMPLE if kind.coded else kind.trained_on(len(positions)), len(positions))
        sample = snapshot.vectors.take(np.sort(np.random.default_rng(0).permutation(positions)[:size]))
        index = kind.make(sample, sample.shape[1], len(positions))
        if kind.coded:
            coding = _add(kind, index, Coding(step_for(sample), 0.0), snapshot, positions, stop)
            return cls(kind, index, snapshot.rows[positions], coding)
        parts = [kind.assigned(index, vectors) for _, vectors in _parts(snapshot, positions, stop)]
        known = [part for part in parts if part is not None]
        if known:
            kind.reserve(index, np.concatenate(known))
        for number, vectors in _parts(snapshot, positions, stop):
            kind.add(index, vectors, parts[number])
        return cls(kind, index, snapshot.rows[positions], None)

    def grown(self, snapshot: Snapshot, positions: NDArray[np.int64], stop: threading.Event) -> AnnIndex:
        """A copy with what is at more positions of a snapshot, whose rows are later than all of this one's.

        :raises Stopped: as :meth:`build`.
        """
        import faiss

        index = faiss.clone_index(self.index) if self.path is None else self.kind.read(self.path, mapped=False)
        coding = self.coding
        if coding is None:
            for _, vectors in _parts(snapshot, positions, stop):
                self.kind.add(index, vectors, self.kind.assigned(index, vectors))
        else:
            coding = _add(self.kind, index, coding, snapshot, positions, stop)
        rows = np.concatenate([self.rows, snapshot.rows[positions]])
        return AnnIndex(self.kind, index, rows, coding, self.tuning)

    def tuned(self, snapshot: Snapshot, recall: float, queries: Mapping[str, FloatMatrix]) -> AnnIndex:
        """The same index with the least effort that has a recall; see :func:`index.ann.tuning.tune`.

        :param snapshot: of the same rows, if dead ones are not counted, or more.
        """
        known = snapshot.up_to(int(self.rows[-1]))
        if not known.vectors.held:  # the same rows are looked at with every effort
            known = replace(known, vectors=RememberedVectors(known.vectors, int(self.index.d)))

        def search(queries: FloatMatrix, k: int, effort: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            return self._nearest_of_many(queries, k, known, effort)

        tuning = tune(search, known, queries, self.kind, recall, easier=not self.kind.estimates)
        return self.with_tuning(tuning)

    def with_tuning(self, tuning: Tuning) -> AnnIndex:
        """The same index, which spends something else."""
        other = copy(self)
        other.tuning = tuning
        return other

    def nearest_alive(
        self, query: FloatMatrix, k: int, snapshot: Snapshot, effort: int | None = None
    ) -> NDArray[np.int64]:
        """Ascending positions in a snapshot of what may be the ``k`` nearest that are alive, ``k`` or more."""
        depth, spent = k, effort or self.tuning.effort(k)
        found = self.reached_easily(query, k) if effort is None else None
        rows, scores = self.candidates(query, depth, spent) if found is None else found
        while True:
            positions, alive = snapshot.located(rows)
            positions, scores = positions[alive], scores[alive]
            if len(positions) >= k or depth >= len(self.rows):
                if len(positions) > k:
                    positions = positions[scores >= scores[k - 1] - self._blur(query)]
                return np.sort(positions)
            depth, spent = 2 * depth, 2 * spent
            rows, scores = self.candidates(query, depth, spent)

    def _nearest_of_many(
        self, queries: FloatMatrix, k: int, snapshot: Snapshot, effort: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and cosines (n, k) of what :meth:`nearest_alive` leads to, best first; -1 where there is nothing."""
        depth = -(-k * len(self) // max(1, len(snapshot)))  # what has gone is passed over
        rows, scores = self._candidates(queries, min(depth, len(self)), effort)
        located, alive = snapshot.located(rows)
        scores[~alive] = -np.inf
        last = min(k, scores.shape[1])
        kth = np.partition(scores, scores.shape[1] - last, axis=1)[:, -last]
        near = (scores >= (kth - self._blur(queries))[:, None]) & (scores > -np.inf)
        exact = np.full(rows.shape, -np.inf, dtype=np.float32)
        asking, at = near.nonzero()
        step = max(1, _EXACT_AT_ONCE // queries.shape[1])
        for start in range(0, len(asking), step):  # by codes of one bit a thousand candidates of each query are near
            some, which = asking[start : start + step], at[start : start + step]
            exact[some, which] = np.einsum("ij,ij->i", snapshot.vectors_at(located[some, which]), queries[some])
        order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
        exact = np.take_along_axis(exact, order, axis=1)
        return np.where(exact > -np.inf, np.take_along_axis(rows, order, axis=1), -1), exact

    def reached(self, query: FloatMatrix, depth: int) -> Neighbors:
        """As :meth:`candidates`, by what was measured to be enough: less for a query that has near neighbors."""
        found = self.reached_easily(query, depth)
        return self.candidates(query, depth, self.tuning.between(depth)) if found is None else found

    def reached_easily(self, query: FloatMatrix, depth: int) -> Neighbors | None:
        """As :meth:`reached`; None if that takes more than is tried first."""
        easy = self.tuning.easy_for(depth)
        if easy is None:
            return None
        rows, scores = self.candidates(query, depth, easy.effort)
        return (rows, scores) if len(scores) >= depth and scores[depth - 1] >= easy.score else None

    def _blur(self, queries: FloatMatrix) -> NDArray[np.float32] | float:
        """How much further a row may seem to be than it is."""
        if self.coding is None:
            return np.inf if self.kind.estimates else _ROUNDING
        return blur(steps_for(queries), self.coding.step)

    def candidates(self, query: FloatMatrix, depth: int, effort: int) -> Neighbors:
        """Rows that may be the ``depth`` nearest to a query (1, dim), alive or not, with about their cosines."""
        rows, scores = (found[0] for found in self._candidates(query, min(depth, len(self.rows)), effort))
        if rows[-1] >= 0:
            return rows, scores
        return rows[rows >= 0], scores[rows >= 0]

    def _candidates(
        self, queries: FloatMatrix, depth: int, effort: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As :meth:`candidates` of several queries, (n, depth or more); rows of -1 where there is nothing."""
        count = min(self.kind.candidate_count(depth, effort), len(self.rows))
        if self.coding is not None:
            steps = steps_for(queries)[:, None]
            queries = np.rint(queries / steps)
        scores, at = self.index.search(queries, count, params=self._parameters(count, effort))
        scores = self.kind.cosines(scores)
        if self.coding is not None:
            scores *= steps * np.float32(self.coding.step)
        if at[:, -1].min(initial=0) >= 0:
            return self.rows[at], scores
        return np.where(at >= 0, self.rows[at], -1), scores

    def _parameters(self, k: int, effort: int) -> Any:
        key, (made_for, parameters) = (effort, k), self._made
        if key != made_for:  # making them takes as long as a tenth of a search
            parameters = self.kind.parameters(*key)
            self._made = key, parameters
        return parameters


def _add(
    kind: AnnIndexType,
    index: Any,
    coding: Coding,
    snapshot: Snapshot,
    positions: NDArray[np.int64],
    stop: threading.Event,
) -> Coding:
    """Add the codes of what is at some positions; how all of them are coded."""
    residual = coding.residual
    for _, vectors in _parts(snapshot, positions, stop):
        codes, longest = coded(vectors, coding.step)
        residual = max(residual, longest)
        kind.add(index, codes.astype(np.float32), None)
    return Coding(coding.step, residual)


def _parts(
    snapshot: Snapshot, positions: NDArray[np.int64], stop: threading.Event
) -> Iterator[tuple[int, FloatMatrix]]:
    """Vectors (n, dim) a few at a time, with the number of the part."""
    for number, start in enumerate(range(0, len(positions), _ADDED_AT_ONCE)):
        if stop.is_set():
            raise Stopped
        yield number, snapshot.vectors.take(positions[start : start + _ADDED_AT_ONCE])
