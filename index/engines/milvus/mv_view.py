"""Searches of one committed state in Milvus, which filters before it compares."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.engines.milvus.mv_conditions import EVERYTHING, both, compiled
from index.engines.milvus.mv_connection import MOST_LINES
from index.engines.milvus.mv_reader import MvReader
from index.engines.milvus.mv_words import ranked, with_words
from index.query.filters import Filter
from index.query.fusion import Ranking
from index.query.view import ByWords
from index.results import Plan
from index.storage.schema import About

_USUAL_EFFORT = 100  # where none was measured
_QUERIES_AT_ONCE = 100
_VECTORS_AT_ONCE = 1000


class MvView:
    """See :class:`index.query.view.View`.

    :param effort: of the graph; None for the measured one.
    """

    def __init__(self, reader: MvReader, *, effort: int | None = None) -> None:
        self._reader, self._effort = reader, effort
        self._plans: list[Plan] = []

    @property
    def reader(self) -> MvReader:
        """Of the documents."""
        return self._reader

    @property
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
        return self._reader.state.sequence

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Of all documents, ascending."""
        return self._reader.rows_of(EVERYTHING)

    @property
    def count(self) -> int:
        """How many documents there are."""
        return self._reader.count()

    def mask(self, condition: Filter) -> str:
        """A condition of Milvus."""
        return compiled(condition, partial(with_words, self._reader))

    def matching(self, condition: Filter) -> list[int]:
        """Rows that match a filter, ascending."""
        return [int(row) for row in self._reader.rows_of(self.mask(condition))]

    def nearest(self, queries: FloatMatrix, k: int, mask: str | None) -> list[Ranking]:
        """Rows and cosines of the ``k`` nearest to each query (n, dim), best first."""
        matches = self.count if mask is None else self._reader.counted(mask)
        state, hits = self._reader.state, min(k, matches)
        if hits == 0:
            self._plans.append(Plan("exact", matches))
            return [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        if hits > MOST_LINES or (state.graph and 2 * hits >= matches):
            self._plans.append(Plan("exact", matches))
            return self.exact(queries, k, mask)
        parameters: dict[str, int] = {}
        if state.graph:
            effort = max(hits, self._effort or state.effort or _USUAL_EFFORT)
            parameters["ef"] = effort
            self._plans.append(Plan("graph", matches, hits, effort))
        else:
            self._plans.append(Plan("exact", matches))
        parts = [queries[start : start + _QUERIES_AT_ONCE] for start in range(0, len(queries), _QUERIES_AT_ONCE)]
        return [ranking for part in parts for ranking in self._searched(part, hits, mask, parameters)]

    def exact(self, queries: FloatMatrix, k: int, mask: str | None) -> list[Ranking]:
        """As :meth:`nearest`, compared with all that match, here."""
        best: list[Ranking] = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in queries]
        pages = self._reader.pages(mask or EVERYTHING, ("row", "vector", "vector_checksum"), _VECTORS_AT_ONCE)
        for lines in pages:
            rows = np.array([line["row"] for line in lines], dtype=np.int64)
            scores = queries @ np.array([self._reader.vector_of(line) for line in lines]).T
            best = [
                _ranking(np.concatenate([known[0], rows]), np.concatenate([known[1], own]), k)
                for known, own in zip(best, scores, strict=True)
            ]
        return best

    def lexical(self, text: str, k: int, mask: str | None) -> ByWords:
        """Rows and BM25 scores of the ``k`` that match a text's words best."""
        return ranked(self._reader, text, k, mask or EVERYTHING)

    def hybrid(
        self, queries: FloatMatrix, texts: Sequence[str], k: int, words: int, mask: str | None
    ) -> list[tuple[Ranking, ByWords]]:
        """One after the other: Milvus's own hybrid search knows nothing of what is scored anew here."""
        by_words = [self.lexical(text, words, mask) for text in texts]
        return list(zip(self.nearest(queries, k, mask), by_words, strict=True))

    def vectors_of(self, rows: Sequence[int]) -> FloatMatrix:
        """Vectors (n, dim) of rows in any order."""
        by_row = self._reader.vectors_by_row(rows)
        return np.array([by_row[row] for row in rows], dtype=np.float32).reshape(-1, self.about.dim)

    def remember(self, queries: FloatMatrix) -> None:
        """Nothing is tuned with them."""

    def _searched(self, queries: FloatMatrix, k: int, mask: str | None, parameters: dict[str, int]) -> list[Ranking]:
        reader = self._reader
        answers = reader.database.call(
            "search",
            reader.lines,
            data=[query.tolist() for query in queries],
            anns_field="vector",
            filter=both(reader.state.alive(), mask or EVERYTHING),
            limit=k,
            output_fields=["row"],
            search_params={"metric_type": "IP", "params": parameters},
            consistency_level="Strong",
        )
        return [
            _ranking(
                np.array([hit["row"] for hit in hits], dtype=np.int64),
                np.array([hit["distance"] for hit in hits], dtype=np.float32),
                k,
            )
            for hits in answers
        ]


def _ranking(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Ranking:
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]
