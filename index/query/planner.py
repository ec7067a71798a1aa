"""The planner of filtered dense search: an exact scan of what matches, or the graph, whichever is sooner done.

Few matches are scanned. Where most documents match, the nearest of all are nearly the nearest that match: the graph is
asked for some more than are wanted, and what does not match is passed over. How many that takes is seen by how many
match, so a filter whose matches lie far from the query is found out: then the scan is made after all, and costs no more
than twice what it would have. What the graph finds is measured as for a search without a filter.

What either way costs is learned from the searches themselves.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.builder import Builder
from index.ann.codes import CodedVectors, nearest_coded
from index.ann.snapshot import Neighbors, Snapshot
from index.results import Plan

_MARGIN = 1.5  # more than the share of matches asks for: of those near a query it is another
_SPARE = 8
_FOLLOW = 0.1  # weight of the newest search in a cost


class Cost:
    """Seconds of a search: so many at least, and more for each unit of work. Follows the searches that are made."""

    def __init__(self, launch: float, unit: float) -> None:
        self.launch, self.unit = launch, unit

    def seconds(self, units: float) -> float:
        """What it takes, about."""
        return self.launch + self.unit * units

    def learn(self, units: float, seconds: float) -> None:
        """One took so long."""
        unit = max(seconds - self.launch, 0.1 * self.launch) / max(units, 1)
        # a search that was interrupted says nothing of the next: no step is larger than a factor of two
        self.unit += _FOLLOW * (min(unit, 2 * self.unit) - self.unit)


class Planner:
    """Of one collection. Safe for threads; its costs are estimates, and a lost update of one does no harm."""

    def __init__(self, builder: Builder, dim: int) -> None:
        self._builder, self._codes = builder, CodedVectors()
        # Until there are searches: what they took at 384 dimensions on a processor of 2023, and in proportion.
        self.scan = Cost(50e-6, 0.2e-9 * dim)  # a row that matches
        self.graph = Cost(60e-6, 12e-9 * dim)  # a unit of effort

    def nearest(
        self, queries: FloatMatrix, k: int, snapshot: Snapshot, mask: NDArray[np.bool_]
    ) -> tuple[list[Neighbors], Plan]:
        """As :meth:`Snapshot.nearest` with a mask, nearly always the same, and how it was found.

        :param mask: bool (n,), of rows that are alive.
        """
        matches = int(np.count_nonzero(mask))
        found = self._through_graph(queries, k, snapshot, mask, matches)
        return found if found is not None else (self._scanned(queries, k, snapshot, mask), Plan("exact", matches))

    def _through_graph(
        self, queries: FloatMatrix, k: int, snapshot: Snapshot, mask: NDArray[np.bool_], matches: int
    ) -> tuple[list[Neighbors], Plan] | None:
        """None where a scan is the better plan, or the graph does not reach ``k`` that match at that price."""
        segments = self._builder.segments_for(snapshot)
        if segments is None or matches <= k:
            return None
        tuning = segments.main.tuning
        depth = int(_MARGIN * k * len(snapshot) / matches) + _SPARE
        price = self.scan.seconds(matches)
        if 2 * depth >= len(segments.main) or self.graph.seconds(max(tuning.between(depth), depth)) > price:
            return None
        found, deepest = [], depth
        for query in queries:
            begun, asked = time.perf_counter(), depth
            while True:
                effort = max(tuning.between(asked), asked)
                neighbors = segments.nearest_among(query, k, asked, snapshot, mask)
                if neighbors is not None:
                    break
                asked *= 2
                if 2 * asked >= len(segments.main) or self.graph.seconds(2 * effort) > price:
                    return None
            self.graph.learn(effort, time.perf_counter() - begun)
            found.append(neighbors)
            deepest = max(deepest, asked)
        return found, Plan("graph", matches, deepest, max(tuning.between(deepest), deepest))

    def _scanned(self, queries: FloatMatrix, k: int, snapshot: Snapshot, mask: NDArray[np.bool_]) -> list[Neighbors]:
        begun = time.perf_counter()
        codes = self._codes.of(snapshot)
        if codes is None:
            return snapshot.nearest(queries, k, mask)
        positions = np.flatnonzero(mask)
        found = nearest_coded(queries, k, snapshot, codes, positions)
        if len(queries):
            self.scan.learn(len(positions) * len(queries), time.perf_counter() - begun)
        return found
