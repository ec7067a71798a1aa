"""Segments: a large index, a small one over later rows, and the last rows without one.

Rows that have gone since an index was built are passed over. The small index takes new rows while searches go on, so
that few are left to be looked at one by one; when it has grown, the large one is built anew with all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.ann_index import AnnIndex
from index.memory.codes import LEAST, Codes, possible
from index.memory.snapshot import Neighbors, Snapshot


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
        return snapshot.count_up_to(self.last_row)

    def nearest(
        self, queries: FloatMatrix, k: int, snapshot: Snapshot, codes: Callable[[], Codes | None]
    ) -> list[Neighbors]:
        """As :meth:`index.memory.snapshot.Snapshot.nearest`, nearly always the same.

        Three places may hold a nearest row: the large index, the small one over later rows, and the tail that no index
        has yet. What any of them holds is compared exactly.

        :param codes: gives those of the snapshot, if they are made; asked where many rows are in no index.
        """
        known = self.known(snapshot)
        new = np.flatnonzero(snapshot.alive[known:]) + known
        coded = codes() if len(new) >= LEAST else None
        return [self._nearest(query, k, snapshot, new, coded) for query in queries]

    def _nearest(
        self, query: FloatMatrix, k: int, snapshot: Snapshot, new: NDArray[np.int64], codes: Codes | None
    ) -> Neighbors:
        parts = [part.nearest_alive(query[None], k, snapshot) for part in self.parts]
        tail = new if codes is None else possible(query, k, codes, new, held=snapshot.vectors.held)
        return snapshot.compared(query, k, np.concatenate([*parts, tail]))

    def nearest_among(
        self,
        query: FloatMatrix,
        k: int,
        depth: int,
        snapshot: Snapshot,
        mask: NDArray[np.bool_],
        codes: Codes | None,
        *,
        easily: bool = False,
    ) -> Neighbors | None:
        """The ``k`` nearest of the rows that a mask lets through, among the ``depth`` nearest of each index.

        :param mask: bool (n,) over the snapshot's rows, of rows that are alive.
        :param easily: spend no more on the large index than is tried first.
        :return: None if that is not deep enough to know them, or takes more.
        """
        known = self.known(snapshot)
        parts, unseen = [], -np.inf
        for part in self.parts:
            reached = part.reached_easily(query[None], depth) if easily and part is self.main else None
            if reached is None:
                if easily and part is self.main:
                    return None
                reached = part.reached(query[None], depth)
            rows, scores = reached
            matching = snapshot.positions(rows, mask)
            parts.append(matching)
            if len(part) > depth and len(matching) < k:  # what it did not show may be as near as the last
                unseen = max(unseen, scores[-1] if len(scores) else np.inf)
        tail = np.flatnonzero(mask[known:]) + known
        if codes is not None:
            tail = possible(query, k, codes, tail, held=snapshot.vectors.held)
        positions = np.concatenate([*parts, tail])
        rows, scores = snapshot.compared(query, k, positions)
        return None if len(rows) < k or scores[-1] < unseen else (rows, scores)
