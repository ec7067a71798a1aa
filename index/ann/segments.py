"""Segments: a large index, a small one over later rows, and the last rows without one.

Rows that have gone since an index was built are passed over. The small index takes new rows while searches go on, so
that few are left to be looked at one by one; when it has grown, the large one is built anew with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.ann_index import AnnIndex
from index.ann.snapshot import Neighbors, Snapshot, best_of


class Segments(NamedTuple):
    """Indexes over rows that follow each other."""

    main: AnnIndex
    recent: AnnIndex | None = None

    @property
    def parts(self) -> tuple[AnnIndex, ...]:
        """Those that there are."""
        return (self.main,) if self.recent is None else (self.main, self.recent)

    @property
    def size(self) -> int:
        """How many rows they have."""
        return sum(len(part) for part in self.parts)

    @property
    def last_row(self) -> int:
        """Rows above it are in none of them."""
        return int(self.parts[-1].rows[-1])

    def known(self, snapshot: Snapshot) -> int:
        """How many positions of a snapshot are of rows up to the last one."""
        return int(np.searchsorted(snapshot.rows, self.last_row, side="right"))

    def nearest(self, queries: FloatMatrix, k: int, snapshot: Snapshot) -> list[Neighbors]:
        """As :meth:`index.ann.snapshot.Snapshot.nearest`, nearly always the same."""
        known = self.known(snapshot)
        new = np.flatnonzero(snapshot.alive[known:]) + known
        # a snapshot's rows up to the last one are among the indexes': if there are as many, they are the same
        whole = not snapshot.dead and known == self.size
        return [self._nearest(query, k, snapshot, new, whole=whole) for query in queries]

    def nearest_among(
        self, query: FloatMatrix, k: int, depth: int, snapshot: Snapshot, mask: NDArray[np.bool_]
    ) -> Neighbors | None:
        """The ``k`` nearest of the rows that a mask lets through, among the ``depth`` nearest of each index.

        :param mask: bool (n,) over the snapshot's rows, of rows that are alive.
        :return: None if that is not deep enough to know them.
        """
        known = self.known(snapshot)
        new = np.flatnonzero(mask[known:]) + known
        parts, unseen = [(snapshot.rows[new], snapshot.vectors[new] @ query)], -np.inf
        for part in self.parts:
            rows, scores = part.search(query[None], depth, part.tuning.between(depth))
            matching = snapshot.holds(rows, mask)
            parts.append((rows[matching], scores[matching]))
            if len(part) > depth and np.count_nonzero(matching) < k:  # what it did not show may be as near as the last
                unseen = max(unseen, scores[-1] if len(scores) else np.inf)
        rows, scores = _merged(parts, k)
        return None if len(rows) < k or scores[-1] < unseen else (rows, scores)

    def _nearest(
        self, query: FloatMatrix, k: int, snapshot: Snapshot, new: NDArray[np.int64], *, whole: bool
    ) -> Neighbors:
        # Three places may hold a nearest row: the large index, the small one over later rows, and the tail that no
        # index has yet, which is compared exactly. Rows deleted since an index was built are skipped, not removed.
        parts = [
            part.search(query[None], k) if whole else _alive(part, query[None], k, snapshot) for part in self.parts
        ]
        if len(new):
            vectors = snapshot.vectors[new[0] :] if len(new) == new[-1] - new[0] + 1 else snapshot.vectors[new]
            parts.append((snapshot.rows[new], vectors[: len(new)] @ query))
        rows, scores = parts[0]
        if len(parts) > 1 or (scores[1:] >= scores[:-1]).any():  # of equal scores the older row comes first
            return _merged(parts, k)
        return rows[:k], scores[:k]


def _merged(parts: Sequence[Neighbors], k: int) -> Neighbors:
    """The ``k`` nearest of several parts."""
    rows, scores = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    rows, scores = rows[order], scores[order]
    best = best_of(scores, min(k, len(rows)))
    return rows[best], scores[best]


def _alive(part: AnnIndex, query: FloatMatrix, k: int, snapshot: Snapshot) -> Neighbors:
    """The nearest that are alive; more are asked for until there are as many."""
    count = k
    while True:
        count = min(count, len(part))
        rows, scores = part.search(query, count)
        alive = snapshot.holds(rows)
        if alive.sum() >= k or count == len(part):
            return rows[alive], scores[alive]
        count *= 2
