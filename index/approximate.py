"""An index over the vectors of a snapshot: near neighbours without looking at all of them.

It knows rows, not places, so that it serves later snapshots too: rows that have gone since are passed over, rows that
have come since are searched exactly beside it. It is derived: what is lost is built again from the vectors.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.blocks import Block
from index.kinds import ApproximateKind
from index.snapshot import Found, Snapshot, best_of

_SAMPLE, _NEAREST = 200, 10  # stored vectors that recall is measured with, and how many of their nearest
_ADDED_AT_ONCE = 1000
_TRAINED = 200_000  # vectors of the sample that a kind is trained on


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A build was asked to stop."""


class Approximate:
    """Made by :meth:`build` or :meth:`from_bytes`; then never changed, and safe for threads.

    :ivar rows: int64 (n,), ascending.
    :ivar effort: of a search, in the kind's own measure.
    :ivar recall: share of the true ten nearest that a search finds, measured when it was built.
    """

    def __init__(self, kind: ApproximateKind, index: Any, rows: NDArray[np.int64], effort: int, recall: float) -> None:
        self.kind, self._index, self.rows, self.effort, self.recall = kind, index, rows, effort, recall
        self._made: tuple[tuple[int, int], Any] = (-1, -1), None  # the last search's effort and k, and parameters

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def last_row(self) -> int:
        """Rows above it are not in the graph."""
        return int(self.rows[-1])

    @classmethod
    def build(
        cls, kind: ApproximateKind, snapshot: Snapshot, wanted_recall: float, stop: threading.Event
    ) -> Approximate:
        """Build one over all that is alive, and find the least effort that has the wanted recall.

        :raises Stopped: if ``stop`` was set meanwhile.
        """
        places = np.flatnonzero(snapshot.alive)
        sample = np.random.default_rng(0).permutation(places)[:_TRAINED]
        index = kind.make(snapshot.vectors[np.sort(sample)], len(places))
        for start in range(0, len(places), _ADDED_AT_ONCE):
            if stop.is_set():
                raise Stopped
            index.add(snapshot.vectors[places[start : start + _ADDED_AT_ONCE]])
        made = cls(kind, index, snapshot.rows[places], kind.efforts[-1], 1.0)
        made._tune(snapshot, wanted_recall)
        return made

    @classmethod
    def from_bytes(
        cls, kind: ApproximateKind, data: NDArray[np.uint8], block: Block, effort: int, recall: float
    ) -> Approximate:
        """What :meth:`to_bytes` made of it, over the vectors of a block.

        The bytes must have been checked: FAISS trusts them.
        """
        return cls(kind, kind.from_bytes(data, block.vectors), block.rows.copy(), effort, recall)

    def to_bytes(self) -> NDArray[np.uint8]:
        """FAISS's own form of it, without rows, and without vectors where the kind can do without."""
        return self.kind.to_bytes(self._index)

    def nearest(self, queries: FloatMatrix, k: int, snapshot: Snapshot) -> list[Found]:
        """As :meth:`index.snapshot.Snapshot.nearest`, nearly always the same."""
        known = int(np.searchsorted(snapshot.rows, self.last_row, side="right"))
        new = np.flatnonzero(snapshot.alive[known:]) + known
        # a snapshot's rows up to the last one are among the graph's: if there are as many, they are the same
        search = self._search if not snapshot.dead and known == len(self.rows) else self._alive
        found = []
        for query in queries:
            rows, scores = search(query[None], k, snapshot)
            if len(new):
                rows = np.concatenate([rows, snapshot.rows[new]])
                scores = np.concatenate([scores, snapshot.vectors[new] @ query])
            if len(new) or (scores[1:] >= scores[:-1]).any():  # of equal scores the older row comes first
                order = np.argsort(rows, kind="stable")
                rows, scores = rows[order], scores[order]
                best = best_of(scores, min(k, len(rows)))
                rows, scores = rows[best], scores[best]
            found.append((rows[:k], scores[:k]))
        return found

    def _alive(self, query: FloatMatrix, k: int, snapshot: Snapshot) -> Found:
        """As ``_search``, of those that are alive; more are asked for until there are as many."""
        asked = k
        while True:
            asked = min(asked, len(self.rows))
            rows, scores = self._search(query, asked, snapshot)
            where = np.minimum(np.searchsorted(snapshot.rows, rows), len(snapshot.rows) - 1)
            alive = (snapshot.rows[where] == rows) & snapshot.alive[where]
            if alive.sum() >= k or asked == len(self.rows):
                return rows[alive], scores[alive]
            asked *= 2

    def _search(self, query: FloatMatrix, k: int, _: Snapshot) -> Found:
        """The ``k`` nearest in the graph, alive or not, best first."""
        scores, places = self._index.search(query, min(k, len(self.rows)), params=self._parameters(k))
        if places[0, -1] >= 0:
            return self.rows[places[0]], scores[0]
        there = places[0] >= 0  # a graph may not reach as many
        return self.rows[places[0][there]], scores[0][there]

    def _parameters(self, k: int) -> Any:
        key, (made_for, parameters) = (self.effort, k), self._made
        if key != made_for:  # making them takes as long as a tenth of a search
            parameters = self.kind.parameters(*key)
            self._made = key, parameters
        return parameters

    def _tune(self, snapshot: Snapshot, wanted: float) -> None:
        """Documents stand for queries; that each finds itself is no merit."""
        sample = self.rows[np.random.default_rng(0).permutation(len(self.rows))[:_SAMPLE]]
        queries = snapshot.vectors[np.searchsorted(snapshot.rows, sample)]
        truth = _others(sample, snapshot.nearest(queries, _NEAREST + 1))
        for effort in self.kind.efforts:
            self.effort = effort
            found = _others(sample, self.nearest(queries, _NEAREST + 1, snapshot))
            shares = [len(best & rows) / len(best) for best, rows in zip(truth, found, strict=True) if best]
            self.recall = float(np.mean(shares)) if shares else 1.0
            if self.recall >= wanted:
                return


def _others(sample: NDArray[np.int64], found: list[Found]) -> list[set[int]]:
    """The rows that were found, without those that were asked for."""
    return [set(rows.tolist()) - {row} for row, (rows, _) in zip(sample.tolist(), found, strict=True)]
