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
from psycopg import sql

from encoder_tools.protocols import FloatMatrix
from index.engines.postgres import pg_words
from index.engines.postgres.pg_conditions import EVERYTHING, PgCondition, compiled
from index.engines.postgres.pg_fields import indexed_fields
from index.engines.postgres.pg_reader import PgReader
from index.engines.postgres.pg_schema import type_of
from index.engines.postgres.pg_words import Ranked
from index.query.filters import Filter, Path, fields_of
from index.query.fusion import Ranking
from index.query.view import ByWords
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
# the order of a part is lost where two are put together
_BOTH = """
SELECT 0 AS part, row, score FROM ({dense}) AS dense UNION ALL SELECT 1, row, score FROM ({words}) AS words
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
        depth = self._planned(k, mask)
        return [self._ranked(query, k, mask, depth) for query in queries]

    def _planned(self, k: int, mask: PgCondition | None) -> int:
        """How many neighbors the graph is asked for in the statements that follow; 0 if all are compared."""
        matches = self.count if mask is None else self._matches(mask)
        if not self._walks(k, matches, filtered=mask is not None):
            self._plans.append(Plan("exact", matches))
            return 0
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
        return depth

    def exact(self, queries: FloatMatrix, k: int, mask: PgCondition | None) -> list[Ranking]:
        """As :meth:`nearest`, compared with all that match."""
        return [self._ranked(query, k, mask, 0) for query in queries]

    def lexical(self, text: str, k: int, mask: PgCondition | None) -> ByWords:
        """Rows and BM25 scores of the ``k`` that match a text's words best."""
        made = pg_words.ranked(self._reader, text, k, mask or EVERYTHING)
        return _by_words([] if made is None else self._lines(made))

    def hybrid(
        self, queries: FloatMatrix, texts: Sequence[str], k: int, words: int, mask: PgCondition | None
    ) -> list[tuple[Ranking, ByWords]]:
        """Both in one statement for each query."""
        depth = self._planned(k, mask)
        return [self._both(query, text, k, words, mask, depth) for query, text in zip(queries, texts, strict=True)]

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

    def _dense(self, query: Any, k: int, mask: PgCondition | None, depth: int) -> Ranked:
        condition, named = mask or EVERYTHING, self._reader.database.named
        if not depth:
            return Ranked(named(_EXACT, condition=condition.statement), (*condition.values, query, k))
        statement = named(_GRAPH, condition=condition.statement, type=type_of(self.about))
        return Ranked(statement, (*condition.values, query, depth, query, k))

    def _ranked(self, query: Any, k: int, mask: PgCondition | None, depth: int) -> Ranking:
        rows, scores = _ranking(self._lines(self._dense(query, k, mask, depth)))
        if depth and len(rows) < k:  # the scan ended before it had found enough
            return self._ranked(query, k, mask, 0)
        return rows, scores

    def _both(
        self, query: Any, text: str, k: int, words: int, mask: PgCondition | None, depth: int
    ) -> tuple[Ranking, ByWords]:
        by_words = pg_words.ranked(self._reader, text, words, mask or EVERYTHING)
        if by_words is None:
            return self._ranked(query, k, mask, depth), _by_words([])
        dense = self._dense(query, k, mask, depth)
        statement = sql.SQL(_BOTH).format(dense=dense.statement, words=by_words.statement)
        lines = self._lines(Ranked(statement, (*dense.values, *by_words.values)))
        parts = [sorted((line[1:] for line in lines if line[0] == part), key=lambda one: (-one[1], one[0]))
                 for part in (0, 1)]  # fmt: skip
        ranking = _ranking(parts[0])
        if depth and len(parts[0]) < k:
            ranking = self._ranked(query, k, mask, 0)
        return ranking, _by_words(parts[1])

    def _lines(self, made: Ranked) -> list[Any]:
        return self._reader.connection.execute(made.statement, made.values).fetchall()


def _by_words(lines: Sequence[Any]) -> ByWords:
    rows = np.array([row for row, _ in lines], dtype=np.int64)
    return rows, np.array([score for _, score in lines], dtype=np.float64)


def _ranking(lines: Sequence[Any]) -> Ranking:
    rows = np.array([row for row, _ in lines], dtype=np.int64)
    return rows, np.array([score for _, score in lines], dtype=np.float32)
