"""The best texts by BM25: those that scoring every text gives, whatever is skipped on the way."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.lexical.bm25 import Query, Statistics
from index.lexical.postings import Postings, postings_of_table, postings_of_texts
from index.storage import fts
from index.text.words import Term, words_by

WORDS = [f"w{rank}" for rank in range(60)]


def zipf_texts(count: int, seed: int, length: tuple[int, int] = (1, 30)) -> list[list[str]]:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(*length, size=count)
    ranks = [generator.zipf(1.3, size=size) % len(WORDS) for size in sizes]
    return [[WORDS[rank] for rank in line] for line in ranks]


def by_all(texts: list[list[str]], rows: list[int], terms: list[str], allowed: set[int]) -> list[tuple[int, float]]:
    """Every text scored."""
    average = sum(map(len, texts)) / len(texts)
    having = {term: sum(term in text for text in texts) for term in terms}
    scores = {}
    for row, text in zip(rows, texts, strict=True):
        counts, score = Counter(text), 0.0
        for term in terms:
            weight = max(math.log((len(texts) - having[term] + 0.5) / (having[term] + 0.5)), 1e-6)
            score += weight * counts[term] * 2.2 / (counts[term] + 1.2 * (0.25 + 0.75 * len(text) / average))
        if score and row in allowed:
            scores[row] = score
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def query_of(postings: Postings, terms: list[str]) -> Query:
    statistics = Statistics(len(postings), postings.total)
    known = [(Term(form, 0, 0), postings.of(Term(form, 0, 0))) for form in terms]
    there = [(term, one, statistics.weight(len(one.documents))) for term, one in known if one is not None]
    return Query(postings, there, statistics.average)


def same(ranking: Any, expected: list[tuple[int, float]], k: int) -> None:
    """Equal but for the order of scores that differ by rounding alone."""
    rows, scores = ranking
    assert len(rows) == len(expected[:k])
    np.testing.assert_allclose(scores, [score for _, score in expected[:k]], rtol=1e-9, atol=1e-12)
    by_row = dict(expected)
    np.testing.assert_allclose([by_row[row] for row in rows.tolist()], scores, rtol=1e-9, atol=1e-12)
    assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lengths", [(1, 30), (12, 13)])
def test_the_best_are_those_of_scoring_every_text(seed: int, lengths: tuple[int, int]):
    texts = zipf_texts(3000, seed, lengths)
    rows = list(range(10, 3010))
    postings = postings_of_texts(rows, texts)
    generator = np.random.default_rng(seed)
    for number in range(60):
        terms = list(dict.fromkeys(WORDS[rank] for rank in generator.zipf(1.3, size=1 + number % 5) % len(WORDS)))
        share = [1.0, 0.5, 0.02][number % 3]
        allowed = {row for row in rows if generator.random() < share}
        k = [1, 10, 100, 1000][number % 4]
        expected = by_all(texts, rows, terms, allowed)
        query = query_of(postings, terms)
        same(query.top(k, lambda some, allowed=allowed: np.isin(some, list(allowed))), expected, k)
        same(query.among(np.array(sorted(allowed), dtype=np.int64), k), expected, k)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS[:6]), min_size=1, max_size=8), min_size=1, max_size=25),
    terms=st.lists(st.sampled_from(WORDS[:8]), min_size=1, max_size=4, unique=True),
    k=st.integers(1, 6),
)
def test_of_any_few_texts_too(texts: list[list[str]], terms: list[str], k: int):
    rows = list(range(0, 3 * len(texts), 3))
    expected = by_all(texts, rows, terms, set(rows))
    same(query_of(postings_of_texts(rows, texts), terms).top(k, lambda some: some >= 0), expected, k)


def test_postings_of_the_table_are_those_of_the_texts_and_scores_those_of_fts5():
    texts = zipf_texts(800, 7)
    texts[5] = ["w3"] * 400
    rows = sorted(np.random.default_rng(0).choice(5000, size=800, replace=False).tolist())
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(fts.TABLE)
        joined = [(row, " ".join(text)) for row, text in zip(rows, texts, strict=True)]
        connection.executemany("INSERT INTO terms (rowid, term) VALUES (?, ?)", joined)
        made = postings_of_table(np.array(rows), fts.occurrences(connection))
        expected = postings_of_texts(rows, texts)
        for name in ("rows", "lengths", "forms", "ends", "stops", "documents", "counts"):
            np.testing.assert_array_equal(getattr(made, name), getattr(expected, name), err_msg=name)
        for terms in (["w7"], ["w1", "w20"], ["w2", "w9", "w33", "w50"]):
            match = " OR ".join(f'"{term}"' for term in terms)
            lines = connection.execute("SELECT rowid, -bm25(terms) FROM terms WHERE terms MATCH ?", (match,)).fetchall()
            ours_rows, ours_scores = query_of(made, terms).top(len(rows), lambda some: some >= 0)
            theirs = dict(lines)
            assert theirs.keys() == set(ours_rows.tolist())
            known = [theirs[row] for row in ours_rows.tolist() if row != rows[5]]  # 400 times count as 255
            np.testing.assert_allclose(ours_scores[ours_rows != rows[5]], known, rtol=1e-9)


def test_terms_are_looked_up_whole_or_by_their_beginning():
    words = words_by(None)
    texts = [words.stored(text) for text in ("京都 大学", "京 東京", "kyoto", "", "Ärger ärgert")]
    postings = postings_of_texts([1, 2, 3, 4, 5], texts)
    assert postings.of(Term("kyoto", 0, 0)).documents.tolist() == [2]  # type: ignore[union-attr]
    assert postings.of(Term("kyot", 0, 0)) is None
    assert postings.of(Term("zzz", 0, 0)) is None
    prefixed = postings.of(Term("ky", 0, 0, True))
    assert prefixed is not None
    assert prefixed.documents.tolist() == [2]
    for form in {form for text in texts for form in text}:
        found = postings.of(Term(form, 0, 0))
        assert found is not None
        assert found.documents.tolist() == [n for n, text in enumerate(texts) if form in text]
        assert found.counts.tolist() == [text.count(form) for text in texts if form in text]
    both = postings.of(Term("京", 0, 0, True))
    assert both is not None
    expected = [(n, sum(form.startswith("京") for form in text)) for n, text in enumerate(texts)]
    assert list(zip(both.documents.tolist(), both.counts.tolist(), strict=True)) == [(n, c) for n, c in expected if c]
