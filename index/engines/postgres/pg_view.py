"""Searches of one committed state in PostgreSQL, and the planner of filtered ones.

pgvector's HNSW looks at neighbors first and at the filter afterwards: of a filter that few documents match it finds few
of the nearest, or none. So how many match is estimated; where they are few, all of them are compared, in a
materialized CTE, which the server's planner cannot turn back into a walk of the graph. Else the graph is scanned
iteratively, for more than are wanted, and these are compared exactly. Where it ends before it has found enough, all
that match are compared after all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.engines.postgres import pg_words
from index.engines.postgres.pg_conditions import EVERYTHING, PgCondition, compiled
from index.engines.postgres.pg_fields import indexed_fields
from index.engines.postgres.pg_reader import PgReader
from index.engines.postgres.pg_schema import type_of
from index.query.filters import Filter, Path, fields_of
from index.query.fusion import Ranking
from index.results import Plan
from index.storage.schema import About

_SCANNED_SHARE, _SCANNED_LEAST = 0.05, 2000  # of the documents that match, up to which all of them are compared
_SURE = 4  # times more, or less, than that by the server's estimate: then nothing is counted
_SPARE, _SPARE_SHARE = 20, 3  # neighbors more than are wanted, and times as many, that the graph is asked for
_USUAL_EFFORT, _MOST_EFFORT = 100, 1000  # where none was measured, and pgvector's limit
_LEAST_TUPLES, _MOST_TUPLES = 20_000, 200_000  # that an iterative scan looks at before it ends
_EXACT = """
WITH matches AS MATERIALIZED (SELECT row, vector FROM {schema}.documents WHERE {condition})
SELECT row, -(vector::vector <#> %s) AS score FROM matches ORDER BY score DESC, row LIMIT %s
"""
_GRAPH = """
WITH near AS MATERIALIZED (
    SELECT row, vector FROM {schema}.documents WHERE {condition} ORDER BY vector <#> %s::{type} LIMIT %s
)
SELECT row, -(vector::vector <#> %s) AS score FROM near ORDER BY score DESC, row LIMIT %s
"""
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM {schema}.documents WHERE {condition} LIMIT %s) AS counted"


class PgView:
    """See :class:`index.query.view.View`.

    :param indexed: whether searches may go through the graph.
    :param fields: is told which fields filters name.
    :param effort: of the graph; None for the measured one.
    """

    def __init__(
        self, reader: PgReader, *, indexed: bool, fields: set[Path] | None = None, effort: int | None = None
    ) -> None:
        self._reader, self._indexed, self._effort = reader, indexed, effort
        self._fields: set[Path] = set() if fields is None else fields
        self._filtered: set[Path] = set()
        self._plans: list[Plan] = []

    @property
    def reader(self) -> PgReader:
        """Of the documents."""
        return self._reader

    @cached_property
    def about(self) -> About:
        """Width, model and space of the vectors."""
        return self._reader.about

    @property
    def plans(self) -> list[Plan]:
        """Of the dense searches so far."""
        return self._plans

    @property
    def sequence(self) -> int:
        """A number that every write raises."""
        return int(self._reader.meta["sequence"])

    @property
    def rows(self) -> NDArray[np.int64]:
        """Of all documents, ascending."""
        return self._reader.rows()

    @property
    def count(self) -> int:
        """How many documents there are."""
        return self._reader.count()

    def mask(self, condition: Filter) -> PgCondition:
        """A condition of SQL."""
        self._filtered = fields_of(condition)
        self._fields |= self._filtered
        return compiled(condition, self._reader.database.address, partial(pg_words.rows_with, self._reader))

    def matching(self, condition: Filter) -> list[int]:
        """Rows that match a filter, ascending."""
        mask = self.mask(condition)
        query = "SELECT row FROM {schema}.documents WHERE {condition} ORDER BY row"
        return [row for (row,) in self._reader.all(query, mask.values, condition=mask.statement)]

    def nearest(self, queries: FloatMatrix, k: int, mask: PgCondition | None) -> list[Ranking]:
        """Rows and cosines of the ``k`` nearest to each query (n, dim), best first."""
        matches = self.count if mask is None else self._matches(mask)
        if not self._walks(k, matches, filtered=mask is not None):
            self._plans.append(Plan("exact", matches))
            return self.exact(queries, k, mask)
        depth = _SPARE_SHARE * k + _SPARE
        effort = self._effort or int(self._reader.meta.get("ef_search", _USUAL_EFFORT))
        effort = min(_MOST_EFFORT, max(depth, effort))
        settings = {"hnsw.ef_search": effort, "hnsw.iterative_scan": "relaxed_order"}
        settings["hnsw.max_scan_tuples"] = max(
            _LEAST_TUPLES, min(_MOST_TUPLES, 4 * depth * self.count // max(1, matches))
        )
        calls = ", ".join(["set_config(%s, %s, true)"] * len(settings))
        given = [str(part) for pair in settings.items() for part in pair]
        self._reader.connection.execute(f"SELECT {calls}", given)
        self._plans.append(Plan("graph", matches, depth, effort))
        return [self._through_graph(query, k, depth, mask) for query in queries]

    def exact(self, queries: FloatMatrix, k: int, mask: PgCondition | None) -> list[Ranking]:
        """As :meth:`nearest`, compared with all that match."""
        return [self._compared(query, k, mask or EVERYTHING) for query in queries]

    def lexical(self, text: str, k: int, mask: PgCondition | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows and BM25 scores of the ``k`` that match a text's words best."""
        return pg_words.ranked(self._reader, text, k, mask or EVERYTHING)

    def vectors_of(self, rows: Sequence[int]) -> FloatMatrix:
        """Vectors (n, dim) of rows in any order."""
        by_row = self._reader.vectors_by_row(rows)
        return np.array([by_row[row] for row in rows], dtype=np.float32).reshape(-1, self.about.dim)

    def remember(self, queries: FloatMatrix) -> None:
        """Nothing is tuned with them."""

    def _walks(self, k: int, matches: int, *, filtered: bool) -> bool:
        """Whether the graph is walked."""
        if not self._indexed or 2 * k >= matches:
            return False
        return not filtered or matches > self._scanned

    @property
    def _scanned(self) -> int:
        """Of how many matches all are compared."""
        return max(_SCANNED_LEAST, int(_SCANNED_SHARE * self.count))

    def _matches(self, mask: PgCondition) -> int:
        """About how many documents match: by the server's estimate where that leaves no doubt, else counted."""
        limit = self._scanned
        if self._filtered <= indexed_fields(self._reader.meta):  # of others the server knows nothing
            query = "EXPLAIN (FORMAT JSON) SELECT 1 FROM {schema}.documents WHERE {condition}"
            estimate = self._reader.all(query, mask.values, condition=mask.statement)[0][0][0]["Plan"]["Plan Rows"]
            if not limit / _SURE < estimate < _SURE * limit:
                return int(min(estimate, self.count))
        lines = self._reader.all(_COUNT, (*mask.values, limit + 1), condition=mask.statement)
        return int(lines[0][0])

    def _compared(self, query: Any, k: int, mask: PgCondition) -> Ranking:
        return _ranking(self._reader.all(_EXACT, (*mask.values, query, k), condition=mask.statement))

    def _through_graph(self, query: Any, k: int, depth: int, mask: PgCondition | None) -> Ranking:
        condition = mask or EVERYTHING
        values = (*condition.values, query, depth, query, k)
        kind = type_of(self.about)
        rows, scores = _ranking(self._reader.all(_GRAPH, values, condition=condition.statement, type=kind))
        if len(rows) < k:  # the scan ended before it had found enough
            return self._compared(query, k, condition)
        return rows, scores


def _ranking(lines: list[Any]) -> Ranking:
    rows = np.array([row for row, _ in lines], dtype=np.int64)
    return rows, np.array([score for _, score in lines], dtype=np.float32)
