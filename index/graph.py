"""An HNSW graph over the vectors of a snapshot: near neighbours without looking at all of them.

A graph knows rows, not places, so that it serves later snapshots too: rows that have gone since are passed over, rows
that have come since are searched exactly beside it. It is derived: what is lost is built again from the vectors.

Source: Malkov and Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable
Small World Graphs", 2016; by FAISS.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.blocks import Block
from index.snapshot import Found, Snapshot, best_of

LINKS, BUILD_EFFORT = 32, 80
_EFFORTS = (32, 48, 64, 96, 128, 192, 256, 384, 512)  # of a search: efSearch
_SAMPLE = 200  # stored vectors that recall is measured with
_ADDED_AT_ONCE = 1000


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A build was asked to stop."""


class Graph:
    """Made by :meth:`build` or :meth:`from_bytes`; then never changed, and safe for threads.

    :ivar rows: int64 (n,), ascending.
    :ivar effort: of a search, HNSW's efSearch.
    :ivar recall: share of the true ten nearest that a search finds, measured when it was built.
    """

    def __init__(self, index: Any, rows: NDArray[np.int64], effort: int, recall: float) -> None:
        self._index, self.rows, self.effort, self.recall = index, rows, effort, recall
        self._made: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def last_row(self) -> int:
        """Rows above it are not in the graph."""
        return int(self.rows[-1])

    @classmethod
    def build(cls, snapshot: Snapshot, wanted_recall: float, stop: threading.Event) -> Graph:
        """Build a graph over all that is alive, and find the least effort that has the wanted recall.

        :raises Stopped: if ``stop`` was set meanwhile.
        """
        import faiss

        places = np.flatnonzero(snapshot.alive)
        index = faiss.IndexHNSWFlat(snapshot.vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_EFFORT
        for start in range(0, len(places), _ADDED_AT_ONCE):
            if stop.is_set():
                raise Stopped
            index.add(snapshot.vectors[places[start : start + _ADDED_AT_ONCE]])
        graph = cls(index, snapshot.rows[places], _EFFORTS[-1], 1.0)
        graph._tune(snapshot, wanted_recall)
        return graph

    @classmethod
    def from_bytes(cls, data: NDArray[np.uint8], block: Block, effort: int, recall: float) -> Graph:
        """The graph of :meth:`to_bytes` over the vectors of a block, which are copied.

        The bytes must have been checked: FAISS trusts them.
        """
        import faiss

        index: Any = faiss.deserialize_index(data)
        storage: Any = faiss.IndexFlatIP(block.vectors.shape[1])
        storage.add(block.vectors)
        index.storage, index.own_fields = storage, True
        storage.this.disown()  # it is the graph's to free
        return cls(index, block.rows.copy(), effort, recall)

    def to_bytes(self) -> NDArray[np.uint8]:
        """FAISS's own form of it, without rows and vectors."""
        import faiss

        found: NDArray[np.uint8] = faiss.serialize_index(self._index, faiss.IO_FLAG_SKIP_STORAGE)
        return found

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
        import faiss

        effort = max(self.effort, 2 * k)
        if effort not in self._made:  # making one takes as long as a tenth of a search
            self._made[effort] = faiss.SearchParametersHNSW(efSearch=effort)  # type: ignore[attr-defined]
        return self._made[effort]

    def _tune(self, snapshot: Snapshot, wanted: float) -> None:
        sample = self.rows[np.random.default_rng(0).permutation(len(self.rows))[:_SAMPLE]]
        queries = snapshot.vectors[np.searchsorted(snapshot.rows, sample)]
        truth = [set(rows.tolist()) for rows, _ in snapshot.nearest(queries, 10)]
        for effort in _EFFORTS:
            self.effort = effort
            found = [rows.tolist() for rows, _ in self.nearest(queries, 10, snapshot)]
            shares = [len(best & set(rows)) / len(best) for best, rows in zip(truth, found, strict=True)]
            self.recall = float(np.mean(shares))
            if self.recall >= wanted:
                return
