"""A snapshot: all rows of a collection after one write, with their vectors, searched exactly.

A snapshot never changes: searches use it while the next one is made. The next one shares its memory: rows are only ever
added at the end (their numbers grow), in a buffer that is larger than what is used of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.memory.vectors import Vectors
from index.storage.reader import Reader
from index.storage.vector_block import WriteToken

_QUERIES_AT_ONCE, _COSINES_AT_ONCE = 64, 2**22
_ROWS_AT_ONCE = 2**16
_GATHERED = 0.2  # share of the rows up to which their vectors are copied together

Neighbors: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Row numbers and cosines, best first."""


@dataclass(frozen=True)
class Snapshot:
    """State after a write.

    :ivar write_token: of the write.
    :ivar rows: int64 (n,), ascending.
    :ivar vectors: of them.
    :ivar alive: bool (n,): not gone since.
    :ivar dead: how many are not.
    :ivar generation: positions of rows are those of earlier snapshots of the same generation.
    :ivar unbound: the same beyond a transaction, if this one reads in one.
    """

    write_token: WriteToken
    rows: NDArray[np.int64]
    vectors: Vectors
    alive: NDArray[np.bool_]
    dead: int = 0
    generation: int = 0
    unbound: Snapshot | None = None

    @property
    def outside(self) -> Snapshot:
        """The same, which may be read by any thread at any time."""
        return self.unbound or self

    @property
    def sequence(self) -> int:
        """Number of the write."""
        return self.write_token.sequence

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self.rows) - self.dead

    def within(self, reader: Reader) -> Snapshot:
        """The same, which reads what is not in memory in the transaction of a reader of this state."""
        return self if self.vectors.held else replace(self, vectors=self.vectors.within(reader), unbound=self)

    def count_up_to(self, row: int) -> int:
        """How many positions are of rows up to one."""
        return int(np.searchsorted(self.rows, row, side="right"))

    def up_to(self, row: int) -> Snapshot:
        """The part of it with rows up to one."""
        n = self.count_up_to(row)
        alive = self.alive[:n]
        return replace(self, rows=self.rows[:n], vectors=self.vectors.first(n), alive=alive, dead=n - int(alive.sum()))

    def positions(self, rows: NDArray[np.int64], mask: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Ascending positions of those of some rows that are there and alive, or let through by a mask of such rows."""
        at, there = self.located(np.sort(rows), mask)
        return at[there]

    def located(
        self, rows: NDArray[np.int64], mask: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """A position for each row, in any shape, and whether it is there and alive, or let through by a mask."""
        if not len(self.rows):
            return np.zeros(rows.shape, dtype=np.int64), np.zeros(rows.shape, dtype=bool)
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return at, (self.rows[at] == rows) & (self.alive if mask is None else mask)[at]

    def vectors_at(self, positions: NDArray[np.int64]) -> FloatMatrix:
        """Vectors (n, dim) at positions in any order."""
        ordered, at = np.unique(positions, return_inverse=True)
        return self.vectors.take(ordered)[at]

    def compared(self, query: FloatMatrix, k: int, positions: NDArray[np.int64]) -> Neighbors:
        """Rows and cosines of the ``k`` nearest to a query (dim,) of the rows at ascending positions.

        A product of matrices rounds a row otherwise where others stand beside it; the pages of a search, each with
        its own candidates, would then differ in the last digit. This looks at every row alone.
        """
        cosines = np.einsum("ij,j->i", self.vectors.take(positions), query)
        chosen = best_of(cosines, min(k, len(positions)))
        return self.rows[positions[chosen]], cosines[chosen]

    def nearest(self, queries: FloatMatrix, k: int, mask: NDArray[np.bool_] | None = None) -> list[Neighbors]:
        """Rows and cosines of the ``k`` nearest to each query (n, dim), best first; of equal ones the older row.

        :param mask: bool (n,), of rows that are alive: none but those are compared, and ``k`` of them if there are.
        """
        eligible = self.alive if mask is None else mask
        candidates = np.flatnonzero(eligible)
        if len(candidates) <= min(_GATHERED * len(self.rows), _ROWS_AT_ONCE):
            return _ranked(queries, k, self.vectors.take(candidates), self.rows[candidates], None)
        rankings: list[list[Neighbors]] = [[] for _ in queries]
        for start in range(0, len(self.rows), _ROWS_AT_ONCE):
            some = eligible[start : start + _ROWS_AT_ONCE]
            rows, vectors = self.rows[start : start + len(some)], self.vectors.part(start, start + len(some))
            for ranking, part in zip(rankings, _ranked(queries, k, vectors, rows, some), strict=True):
                ranking[:] = [part if not ranking else merged([*ranking, part], k)]
        return [ranking for (ranking,) in rankings]


def _ranked(
    queries: FloatMatrix, k: int, vectors: FloatMatrix, rows: NDArray[np.int64], eligible: NDArray[np.bool_] | None
) -> list[Neighbors]:
    """The nearest of some rows; looking at those too that are not eligible costs less than to leave them out."""
    at = None if eligible is None or eligible.all() else np.flatnonzero(eligible)
    rankings = []
    step = max(1, min(_QUERIES_AT_ONCE, _COSINES_AT_ONCE // max(1, len(rows))))
    for start in range(0, len(queries), step):
        for cosines in queries[start : start + step] @ vectors.T:
            scores = cosines if at is None else cosines[at]
            chosen = best_of(scores, min(k, len(scores)))
            rankings.append((rows[chosen if at is None else at[chosen]], scores[chosen]))
    return rankings


def merged(parts: Sequence[Neighbors], k: int) -> Neighbors:
    """The ``k`` nearest of several rankings."""
    rows, scores = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    rows, scores = rows[order], scores[order]
    best = best_of(scores, min(k, len(rows)))
    return rows[best], scores[best]


def best_of(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the ``k`` highest scores, highest first; of equal ones the earlier position, also at the cut."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")[:k]
    lowest = np.partition(scores, len(scores) - k)[len(scores) - k]
    above, level = np.flatnonzero(scores > lowest), np.flatnonzero(scores == lowest)
    positions = np.concatenate([above, level[: k - len(above)]])
    positions.sort()
    return positions[np.argsort(-scores[positions], kind="stable")]
