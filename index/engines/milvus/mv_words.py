"""Search by words in Milvus: the words and the BM25 of the embedded engine.

Milvus's own BM25 has words of another kind and weighs them otherwise, so that the engines would not agree. It is given
weights instead, which are right for texts of some average length. When that has changed, or two words have one
dimension, they are only near what they should be: so more candidates are asked for, scored anew, and taken if no other
text can be as good; else yet more are asked for, and in the end all that have one of the words are scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from index.engines.milvus.mv_conditions import NOTHING, among, both, has_all, has_any
from index.engines.milvus.mv_connection import MOST_LINES
from index.engines.milvus.mv_reader import MvReader
from index.engines.milvus.mv_rows import Term, counted, weight
from index.storage.fts import filter_words, query_terms
from index.text.words import Term as QueryTerm
from index.text.words import Word

_SPARE, _SPARE_SHARE, _DEEPER = 30, 3, 4  # candidates more than hits, times as many, and times as many in the next try
_ROUNDED = 1 + 1e-5  # how much larger a score may be than the server's float32 says
_TEXTS_AT_ONCE = 500


def ranked(reader: MvReader, text: str, k: int, condition: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows and BM25 scores of the ``k`` that match a text's words best; of equal ones the older row first."""
    terms = [_term(term) for term in query_terms(reader.words, text)]
    if not terms or not reader.state.length:
        return np.empty(0, dtype=np.int64), np.empty(0)
    scorer = _Scorer(reader, terms)
    depth = min(MOST_LINES, _SPARE_SHARE * k + _SPARE)
    while k < MOST_LINES:
        rows, last = scorer.candidates(depth, condition)
        ranking = scorer.scored(_texts(reader, rows), k)
        if len(rows) < depth or (len(ranking[1]) == k and ranking[1][-1] > scorer.most(last)):
            return ranking
        if depth == MOST_LINES:
            break
        depth = min(MOST_LINES, _DEEPER * depth)
    matching = both(has_any([term.token for term in terms]), condition)
    pages = reader.pages(matching, ("row", "text"), _TEXTS_AT_ONCE)
    return scorer.scored(((line["row"], line["text"]) for page in pages for line in page), k)


class _Scorer:
    """Of one query."""

    def __init__(self, reader: MvReader, terms: Sequence[Term]) -> None:
        self._reader = reader
        statistics = reader.state.statistics
        self._average = statistics.average
        texts = {term: reader.counted(has_any([term.token])) for term in terms}
        self._weights = {term: statistics.weight(own) for term, own in texts.items() if own}

    def candidates(self, depth: int, condition: str) -> tuple[list[int], float]:
        """Rows of the largest sums of stored weights, and the least of these sums."""
        query: dict[int, float] = {}
        for term, rarity in self._weights.items():
            query[term.dimension] = query.get(term.dimension, 0.0) + rarity
        if not query:
            return [], 0.0
        reader = self._reader
        (hits,) = reader.database.call(
            "search",
            reader.lines,
            data=[query],
            anns_field="weights",
            filter=both(reader.state.alive(), condition),
            limit=depth,
            output_fields=["row"],
            search_params={"metric_type": "IP", "params": {"drop_ratio_search": 0.0}},
            consistency_level="Strong",
        )
        return [int(hit["row"]) for hit in hits], float(hits[-1]["distance"]) if hits else 0.0

    def most(self, stored: float) -> float:
        """What the score of a text may be at most whose stored weights have this sum."""
        return stored * max(1.0, self._average / self._reader.state.average) * _ROUNDED

    def scored(self, texts: Iterable[tuple[int, str]], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The best of some rows."""
        rows, scores = [], []
        for row, text in texts:
            words = self._reader.words.stored(text)
            terms = counted(words)
            if any(term in terms for term in self._weights):
                rows.append(row)
                scores.append(self._score(terms, len(words)))
        ordered = np.lexsort((np.array(rows, dtype=np.int64), -np.array(scores, dtype=np.float64)))[:k]
        return np.array(rows, dtype=np.int64)[ordered], np.array(scores, dtype=np.float64)[ordered]

    def _score(self, terms: Counter[Term], length: int) -> float:
        return sum(
            rarity * weight(terms[term], length, self._average)
            for term, rarity in self._weights.items()
            if term in terms
        )


def with_words(reader: MvReader, text: str) -> str:
    """The condition of lines that have all of a text's words; none for a text without words.

    :raises InputError: for a text of very many words.
    """
    words = filter_words(reader.words, text)
    return both(*(_word(reader, word) for word in words)) if words else NOTHING


def _word(reader: MvReader, word: Word) -> str:
    parts = has_all([_term(part).token for part in word.parts])
    if word.phrase and len(word.parts) > 1:
        pages = reader.pages(parts, ("row", "text"), _TEXTS_AT_ONCE)
        lines = (line for page in pages for line in page)
        parts = among("row", [line["row"] for line in lines if word.stands_in(reader.words.stored(line["text"]))])
    return parts if word.whole is None else f"({parts} or {has_all([_term(word.whole).token])})"


def _term(term: QueryTerm) -> Term:
    return Term("beginning" if term.prefix else "word", term.form)


def _texts(reader: MvReader, rows: Sequence[int]) -> Iterable[tuple[int, str]]:
    for start in range(0, len(rows), _TEXTS_AT_ONCE):
        lines = reader.query(among("row", rows[start : start + _TEXTS_AT_ONCE]), ("row", "text"))
        yield from ((line["row"], line["text"]) for line in lines)
