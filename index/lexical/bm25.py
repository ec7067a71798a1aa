"""The best texts by BM25, exactly, without looking at all that have a query's terms.

A term can add to a text no more than it adds where it adds most. Some texts where the terms add most are scored first:
the worst of the best ``k`` of them is a bar. Terms that together cannot reach the bar bring no text of their own, they
are only looked up for texts that other terms bring; and of those texts only such are looked at as can reach it.

Sources: Turtle and Flood, "Query Evaluation: Strategies and Optimizations", 1995 (MaxScore); Robertson and Zaragoza,
"The Probabilistic Relevance Framework: BM25 and Beyond", 2009. The weights are those of SQLite's FTS5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.lexical.postings import Postings, TermList
from index.text.words import Term

K1, B = 1.2, 0.75
_LEAST_WEIGHT = 1e-6  # of a term that half of all texts have, or more
_FEWEST, _CHAMPIONS = 64, 512  # texts of each term that are scored first: twice as many as are looked for, within these
_LONG = 4096  # postings, from which those are remembered
_REMEMBERED = 4096  # terms
_TELLING = 0.01  # of what the first term adds, from which on a term tells which texts are scored first
_SLACK = 1e-5  # of a bar, for what float32 rounds
_SPARSE = 8  # of the rows, one in so many: from as many postings on they are added up in an array of all rows

Keep = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Which of some rows are candidates."""


class Statistics(NamedTuple):
    """Of all texts of a collection.

    :ivar documents: how many, and ``terms``, how many all of them have.
    """

    documents: int
    terms: int

    @property
    def average(self) -> float:
        """Terms of a text."""
        return self.terms / max(1, self.documents)

    def weight(self, having: int) -> float:
        """Of a term that so many texts have."""
        return max(math.log((self.documents - having + 0.5) / (having + 0.5)), _LEAST_WEIGHT)


class _Best(NamedTuple):
    """Of one term: the texts where it adds most, the best first, what it adds there for a weight of 1, and the average
    that this holds for.
    """

    documents: NDArray[np.uint32]
    most: float
    average: float


class Query:
    """One query over one set of postings.

    :param terms: with their weights; those that no text has are left out.
    """

    def __init__(self, postings: Postings, terms: Sequence[tuple[Term, TermList, float]], average: float) -> None:
        self._postings, self._average = postings, average or 1.0
        best = [self._best(term, one) for term, one, _ in terms]
        bounds = [weight * self._bound(known) for (_, _, weight), known in zip(terms, best, strict=True)]
        order = np.argsort(-np.array(bounds), kind="stable")
        self._lists = [terms[position][1] for position in order]
        self._weights = [terms[position][2] for position in order]
        self._bests = [best[position] for position in order]
        self._bounds = np.array([bounds[position] for position in order])
        self._rest = np.append(np.cumsum(self._bounds[::-1])[::-1], 0.0)  # that the terms from one on can add

    def top(self, k: int, keep: Keep) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The ``k`` best rows and their scores, best first; of equal ones the older row."""
        if not self._lists:
            return np.empty(0, dtype=np.int64), np.empty(0)
        return self._best_of(self._candidates(k, keep), k, keep)

    def among(self, rows: NDArray[np.int64], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """As :meth:`top`, of a few rows."""
        positions = np.searchsorted(self._postings.rows, rows)
        positions = positions[positions < len(self._postings)]
        positions = positions[np.isin(self._postings.rows[positions], rows)]
        return self._best_of(positions.astype(np.uint32), k, lambda some: np.ones(len(some), dtype=bool))

    def _best_of(
        self, documents: NDArray[np.uint32], k: int, keep: Keep
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The best of candidates, ascending."""
        scores = self._scores(documents)
        documents, scores = documents[scores > 0], scores[scores > 0]
        take = k
        while True:
            first = _first(scores, take)
            rows = self._postings.rows[documents[first]]
            kept = keep(rows)
            if kept.sum() >= k or take >= len(scores):
                return rows[kept][:k], scores[first][kept][:k]
            take = min(4 * take, len(scores))

    def _candidates(self, k: int, keep: Keep) -> NDArray[np.uint32]:
        """All that can be among the ``k`` best, and few others; ascending."""
        bar = self._bar(k, keep)
        number = self._bringing(bar)
        if sum(len(one.documents) for one in self._lists[:number]) * _SPARSE < len(self._postings):
            documents, scores = self._merged(number, bar)
        else:
            documents, scores, number = self._summed(bar, k, keep)
        bar = max(bar, self._bar_of(documents, scores, k, keep))
        for position in range(number, len(self._lists) + 1):
            reach = scores + self._rest[position] >= bar * (1 - _SLACK)
            documents, scores = documents[reach], scores[reach]
            if position < len(self._lists):
                counts = self._counts(self._lists[position], documents)
                scores = scores + self._added(position, documents, counts)
        return documents

    def _bringing(self, bar: float) -> int:
        """How many terms bring texts: without them the others do not reach the bar."""
        return max(1, int((self._rest[:-1] >= bar * (1 - _SLACK)).sum()))

    def _merged(self, number: int, bar: float) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """Sums of all that the first few terms bring, which is not much."""
        parts = [self._enough(position, bar) for position in range(number)]
        if len(parts) == 1:
            return parts[0]
        documents, where = np.unique(np.concatenate([documents for documents, _ in parts]), return_inverse=True)
        scores = np.bincount(where, np.concatenate([added for _, added in parts]), minlength=len(documents))
        return documents, scores.astype(np.float64, copy=False)

    def _enough(self, number: int, bar: float) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """The texts of a term that reach the bar if all others add their most, and what it adds to them."""
        one = self._lists[number]
        added = self._added(number, one.documents, one.counts)
        need = bar * (1 - _SLACK) - (self._rest[0] - self._bounds[number])
        if need <= 0:
            return one.documents, added
        enough = added >= need
        return one.documents[enough], added[enough]

    def _summed(self, bar: float, k: int, keep: Keep) -> tuple[NDArray[np.uint32], NDArray[np.float64], int]:
        """Sums of all that the terms bring, in an array of all rows; the bar rises with each."""
        sums = np.zeros(len(self._postings), dtype=np.float32)
        number = 0
        while number < self._bringing(bar):
            brought, added = self._enough(number, bar)
            sums[brought] += added
            number += 1
            bar = max(bar, self._bar_of(brought, sums[brought], k, keep))
        documents = np.flatnonzero(sums + self._rest[number] >= bar * (1 - _SLACK)) if bar else np.flatnonzero(sums)
        return documents.astype(np.uint32), sums[documents].astype(np.float64), number

    def _bar(self, k: int, keep: Keep) -> float:
        """The score that ``k`` candidates reach, as far as those show that are scored first."""
        count = max(_FEWEST, 2 * k)
        telling = int((self._bounds >= _TELLING * self._bounds[0]).sum())  # what the others add is left out
        documents = np.unique(np.concatenate([best.documents[:count] for best in self._bests[:telling]]))
        return self._bar_of(documents, self._scores(documents, telling), k, keep)

    def _bar_of(self, documents: NDArray[np.uint32], scores: NDArray[np.floating], k: int, keep: Keep) -> float:
        """The score that ``k`` of some reach; 0 if there are fewer, or fewer of the best that are candidates."""
        if len(documents) < k:
            return 0.0
        first = np.argpartition(-scores, min(2 * k, len(scores)) - 1)[: 2 * k]
        kept = scores[first][keep(self._postings.rows[documents[first]])]
        return float(np.partition(kept, -k)[-k]) if len(kept) >= k else 0.0

    def _scores(self, documents: NDArray[np.uint32], terms: int | None = None) -> NDArray[np.float64]:
        """What the first terms, or all, add to texts, ascending."""
        scores = np.zeros(len(documents))
        for number, one in enumerate(self._lists[:terms]):
            scores += self._added(number, documents, self._counts(one, documents))
        return scores

    def _counts(self, one: TermList, documents: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """How often some texts, ascending, have a term."""
        # looking up takes 50 to 150 ns a text, an array of all rows 0.05 ns a row and 2 ns a text of the term
        if len(documents) < len(self._postings) / 1600 + len(one.documents) / 40:
            at = np.searchsorted(one.documents, documents)
            at[at == len(one.documents)] = 0
            there: NDArray[np.uint8] = np.where(one.documents[at] == documents, one.counts[at], np.uint8(0))
            return there
        counts: NDArray[np.uint8] = np.zeros(len(self._postings), dtype=np.uint8)
        counts[one.documents] = one.counts
        return counts[documents]

    def _added(self, number: int, documents: NDArray[np.uint32], counts: NDArray[np.uint8]) -> NDArray[np.float64]:
        """What a term adds to texts that have it so often."""
        ratio = _ratio(counts, self._postings.lengths[documents], self._average)
        ratio *= self._weights[number]
        return ratio

    def _best(self, term: Term, one: TermList) -> _Best:
        known: dict[tuple[str, bool], _Best] = self._postings.known
        key = term.form, term.prefix
        if key in known:
            return known[key]
        added = _ratio(one.counts, self._postings.lengths[one.documents], self._average)
        first = _first(added, _CHAMPIONS)
        best = _Best(np.array(one.documents[first]), float(added[first[0]]), self._average)
        if len(one.documents) >= _LONG:
            if len(known) >= _REMEMBERED:
                known.clear()
            known[key] = best
        return best

    def _bound(self, best: _Best) -> float:
        """What a weight of 1 can add: where the average has grown since it was found, that may be more."""
        return best.most * max(1.0, self._average / best.average)


def _ratio(counts: NDArray[np.uint8], lengths: NDArray[np.uint32], average: float) -> NDArray[np.float64]:
    often = counts.astype(np.float64)
    ratio: NDArray[np.float64] = often * (K1 + 1) / (often + (K1 * (1 - B) + K1 * B / average * lengths))
    return ratio


def _first(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Positions of the highest scores, best first; of equal ones the first."""
    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
    chosen = np.sort(np.concatenate([above, equal[: count - len(above)]]))
    return chosen[np.argsort(-scores[chosen], kind="stable")]
