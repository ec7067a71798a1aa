"""The planner of filtered dense search: an exact scan of what matches, or the graph, whichever is sooner done.

Few matches are scanned. Where most documents match, the nearest of all are nearly the nearest that match: the graph is
asked for some more than are wanted, and what does not match is passed over. How many that takes is seen by how many
match, so a filter whose matches lie far from the query is found out: then the scan is made after all, and costs no more
than twice what it would have. What the graph finds is measured as for a search without a filter.

What either way costs is measured once for each graph, not followed from then on: the same search has the same plan, and
so its pages are of one ranking.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.ann_index import AnnIndex
from index.ann.builder import Builder
from index.ann.segments import Segments
from index.memory.codes import LEAST, Codes, nearest_coded
from index.memory.snapshot import Neighbors, Snapshot
from index.results import Plan

_MARGIN = 1.5  # more than the share of matches asks for: of those near a query it is another
_SPARE = 8
_QUERIES, _ROUNDS = 8, 3  # of a measurement, which takes about twenty milliseconds
_SCANNED = 20_000  # rows
_TRIED = 64, 256  # efforts


class Cost(NamedTuple):
    """Seconds of a search: so many at least, and more for each unit of work."""

    launch: float
    unit: float

    def seconds(self, units: float) -> float:
        """What it takes, about."""
        return self.launch + self.unit * units


class Costs(NamedTuple):
    """What either plan costs.

    :ivar scan: of a row that matches.
    :ivar graph: of a unit of effort.
    """

    scan: Cost
    graph: Cost


def measure(main: AnnIndex, snapshot: Snapshot, codes: Codes) -> Costs:
    """The costs on this machine, of this graph."""
    positions = np.flatnonzero(snapshot.alive)
    queries = snapshot.vectors.take(positions[:: max(1, len(positions) // _QUERIES)][:_QUERIES])
    some = positions[:: max(1, len(positions) // _SCANNED)]
    few = some[: len(some) // 8]

    def scan(rows: NDArray[np.int64]) -> float:
        return _fastest(lambda query: nearest_coded(query, 10, snapshot, codes, rows), queries)

    def search(effort: int) -> float:
        return _fastest(
            lambda query: snapshot.compared(query[0], 10, main.nearest_alive(query, 10, snapshot, effort)), queries
        )

    low, high = _TRIED
    return Costs(_line((len(few), scan(few)), (len(some), scan(some))), _line((low, search(low)), (high, search(high))))


def _fastest(search: Callable[[FloatMatrix], object], queries: FloatMatrix) -> float:
    """Seconds of a search, the mean over the queries in the fastest of some rounds."""
    rounds = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for number in range(len(queries)):
            search(queries[number : number + 1])
        rounds.append((time.perf_counter() - begun) / len(queries))
    return min(rounds)


def _line(small: tuple[int, float], large: tuple[int, float]) -> Cost:
    """Through two measurements, each the units and the seconds."""
    unit = max(large[1] - small[1], 0.1 * large[1]) / max(1, large[0] - small[0])
    return Cost(max(0.0, small[1] - unit * small[0]), unit)


class Planner:
    """Of one collection. Safe for threads."""

    def __init__(self, builder: Builder, dim: int) -> None:
        self._builder = builder
        self._lock = threading.Lock()
        # Until there are codes: what it took at 384 dimensions on a processor of 2023, and in proportion.
        self._usual = Costs(Cost(50e-6, 0.2e-9 * dim), Cost(60e-6, 12e-9 * dim))
        self._measured: tuple[AnnIndex | None, Costs] = None, self._usual

    def nearest(
        self, queries: FloatMatrix, k: int, snapshot: Snapshot, mask: NDArray[np.bool_]
    ) -> tuple[list[Neighbors], Plan]:
        """As :meth:`Snapshot.nearest` with a mask, nearly always the same, and how it was found.

        :param mask: bool (n,), of rows that are alive.
        """
        matches = int(np.count_nonzero(mask))
        if matches < LEAST:
            positions = np.flatnonzero(mask)
            return [snapshot.compared(query, k, positions) for query in queries], Plan("exact", matches)
        codes = self._builder.codes(snapshot)
        found = self._through_graph(queries, k, snapshot, mask, matches, codes)
        if found is not None:
            return found
        return self._scan(queries, k, snapshot, mask, codes), Plan("exact", matches)

    def scan(self, queries: FloatMatrix, k: int, snapshot: Snapshot, mask: NDArray[np.bool_]) -> list[Neighbors]:
        """As :meth:`nearest`, whatever a graph finds."""
        return self._scan(queries, k, snapshot, mask, self._builder.codes(snapshot))

    @staticmethod
    def _scan(
        queries: FloatMatrix, k: int, snapshot: Snapshot, mask: NDArray[np.bool_], codes: Codes | None
    ) -> list[Neighbors]:
        if codes is None:
            return snapshot.nearest(queries, k, mask)
        return nearest_coded(queries, k, snapshot, codes, np.flatnonzero(mask))

    def costs(self, main: AnnIndex, snapshot: Snapshot, codes: Codes | None) -> Costs:
        """What the plans cost with a graph; measured when it is first asked for."""
        if codes is None:
            return self._usual
        with self._lock:
            if self._measured[0] is not main:
                self._measured = main, measure(main, snapshot, codes)
            return self._measured[1]

    def _through_graph(
        self,
        queries: FloatMatrix,
        k: int,
        snapshot: Snapshot,
        mask: NDArray[np.bool_],
        matches: int,
        codes: Codes | None,
    ) -> tuple[list[Neighbors], Plan] | None:
        """None where a scan is the better plan, or the graph does not reach ``k`` that match at that price."""
        segments = self._builder.segments_for(snapshot)
        depth = int(_MARGIN * k * len(snapshot) / max(matches, 1)) + _SPARE
        if segments is None or matches <= k or 2 * depth >= len(segments.main):
            return None
        costs = self.costs(segments.main, snapshot, codes)
        price = costs.scan.seconds(matches)
        found, deepest, spent = [], depth, 0
        for query in queries:
            asked, neighbors = depth, None
            while neighbors is None:
                full, easy = _efforts(segments, asked)
                easily = costs.graph.seconds(full) > price
                effort = easy if easily else full
                attempts = 2 if easily else 1  # half of the price at most for what may have been in vain
                if 2 * asked >= len(segments.main) or attempts * costs.graph.seconds(effort) > price:
                    return None
                neighbors = segments.nearest_among(query, k, asked, snapshot, mask, codes, easily=easily)
                deepest, spent = max(deepest, asked), max(spent, effort)
                asked *= 2
            found.append(neighbors)
        return found, Plan("graph", matches, deepest, spent)


def _efforts(segments: Segments, depth: int) -> tuple[int, int]:
    """The effort of a depth, and the one that is enough for easy queries."""
    tuning = segments.main.tuning
    full, easy = max(tuning.between(depth), depth), tuning.easy_for(depth)
    return full, full if easy is None else max(easy.effort, depth)
