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
        start = int(np.searchsorted(snapshot.rows, self.last_row, side="right"))
        new = np.flatnonzero(snapshot.alive[start:]) + start
        found = []
        for query in queries:
            rows, scores = self._alive(query[None], k, snapshot)
            if len(new):
                rows = np.concatenate([rows, snapshot.rows[new]])
                scores = np.concatenate([scores, snapshot.vectors[new] @ query])
                order = np.argsort(rows, kind="stable")  # of equal scores the older row comes first
                rows, scores = rows[order], scores[order]
            best = best_of(scores, min(k, len(rows)))
            found.append((rows[best], scores[best]))
        return found

    def _alive(self, query: FloatMatrix, k: int, snapshot: Snapshot) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ``k`` nearest in the graph that are alive, by ascending row; more are asked for until they are."""
        asked = k
        while True:
            asked = min(asked, len(self.rows))
            scores, places = self._search(query, asked)
            rows = self.rows[places]
            where = np.minimum(np.searchsorted(snapshot.rows, rows), len(snapshot.rows) - 1)
            alive = (snapshot.rows[where] == rows) & snapshot.alive[where]
            if alive.sum() >= k or asked == len(self.rows):
                order = np.argsort(rows[alive], kind="stable")
                return rows[alive][order], scores[alive][order]
            asked *= 2

    def _search(self, query: FloatMatrix, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        import faiss

        parameters = faiss.SearchParametersHNSW(efSearch=max(self.effort, 2 * k))  # type: ignore[attr-defined]
        scores, places = self._index.search(query, k, params=parameters)
        there = places[0] >= 0  # a graph may not reach as many
        return scores[0][there], places[0][there]

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
