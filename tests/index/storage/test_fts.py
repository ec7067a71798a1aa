"""Search by words and by both: folding, ranking, injection, what common words cost, and how two rankings become one."""

import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import FileCorruptError, InputError
from index import Collection, Hit, Part
from index.storage import fts as lexical


def texts(hits: list[Hit]) -> list[str]:
    return [hit.text for hit in hits]


def words(collection: Collection, query: str, **options: Any) -> list[Any]:
    return [hit.id for hit in collection.search(query, mode="lexical", **options)]


@pytest.fixture
def filled(collection: Collection) -> Collection:
    rows = {
        "cat": "The red cat sat on the mat",
        "cats": "A cat, a red hat and another cat",
        "café": "Zoë's CAFÉ_bar in Tromsø, 2nd floor",
        "korean": "고양이가 잔다",
        "none": "...",
    }
    collection.upsert(list(rows), list(rows.values()), [{"n": n} for n in range(len(rows))])
    return collection


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("cat", {"cat", "cats"}),
        ("CAT", {"cat", "cats"}),
        ("mat hat", {"cat", "cats"}),
        ("cafe", {"café"}),
        ("CAFÉ", {"café"}),
        ("bar", {"café"}),
        ("zoe s", {"café"}),
        ("2nd", {"café"}),
        ("고양이가", {"korean"}),
        ("dog", set()),
        ("", set()),
        ("... !?", set()),
    ],
)
def test_words_are_found_however_they_are_written(filled: Collection, query: str, found: set[str]):
    assert set(words(filled, query)) == found


@pytest.mark.parametrize(
    "query",
    ['"', "cat OR", "NOT cat", "cat*", "text:cat", "^cat", "cat AND NOT hat", "NEAR(cat hat)", "'; DROP TABLE words;--",
     "cat\0hat", "(", "{text} : cat", "+cat -hat", "\\", "💥 cat"],
)  # fmt: skip
def test_nothing_in_a_query_is_an_operator(filled: Collection, query: str):
    plain = " ".join(part for part in "".join(c if c.isalnum() else " " for c in query).split())
    assert words(filled, query) == words(filled, plain)
    assert filled.count() == 5


def test_scores_are_bm25(filled: Collection):
    """By hand: k1 1.2, b 0.75, over 5 texts; "Zoë's", "CAFÉ_bar" are terms as a whole, and Korean is pairs."""
    lengths = [7, 8, 10, 6, 0]
    average = sum(lengths) / 5
    idf = math.log((5 - 2 + 0.5) / (2 + 0.5))
    wanted = {
        name: idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / average))
        for name, count, length in (("cat", 1, 7), ("cats", 2, 8))
    }
    found = {hit.id: hit.score for hit in filled.search("cat", mode="lexical")}
    assert found == pytest.approx(wanted, rel=1e-3)


def test_words_go_with_their_documents(filled: Collection):
    filled.upsert(["cat"], ["a blue dog"])
    assert words(filled, "red") == ["cats"]
    assert words(filled, "dog") == ["cat"]
    filled.delete(["cats"])
    assert words(filled, "red cat hat") == []
    filled.delete(where={"$text": "blue dog"})
    assert words(filled, "dog") == []
    assert filled.verify() == 3


def test_filters_pages_and_a_least_score_hold_for_words(filled: Collection):
    assert words(filled, "cat", where={"n": 0}) == ["cat"]
    assert words(filled, "cat", where={"n": 9}) == []
    assert words(filled, "cat", k=1, offset=1) == words(filled, "cat")[1:]
    best = filled.search("cat", mode="lexical")[0].score
    assert len(words(filled, "cat", min_score=best)) == 1


def test_a_filter_over_the_text(filled: Collection):
    assert {hit.id for hit in filled.search("x", where={"$text": "cat RED"})} == {"cat", "cats"}
    assert {hit.id for hit in filled.search("x", where={"$text": "cat", "n": {"$gt": 0}})} == {"cats"}
    assert filled.count(where={"$not": {"$text": "cat"}}) == 3
    assert filled.count(where={"$text": ""}) == 0
    with pytest.raises(InputError, match="expected words"):
        filled.count(where={"$text": 3})


def test_common_words_are_left_out_where_rarer_ones_are_there(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lexical, "BUDGET", 30)
    collection.upsert(list(range(100)), [f"common {'rare' if n % 20 == 0 else ''} word{n}" for n in range(100)])
    assert set(words(collection, "common rare", k=100)) == {0, 20, 40, 60, 80}
    assert words(collection, "common rare word7", k=100)[0] == 7
    assert len(words(collection, "common", k=100)) == 30  # of texts that cannot be told apart, the first
    assert words(collection, "common nowhere", k=100) == words(collection, "common", k=100)


def test_a_filter_leaves_every_match_however_common_the_word(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    """What the budget leaves out of all texts is not left out of the few that a filter asks for."""
    monkeypatch.setattr(lexical, "BUDGET", 30)
    texts_of_all = [f"common {'rare' if n < 5 else ''} word{n}" for n in range(100)]
    collection.upsert(list(range(100)), texts_of_all, [{"n": n} for n in range(100)])
    late = {"n": {"$gte": 80}}
    assert set(words(collection, "common", k=100, where=late)) == set(range(80, 100))
    assert set(words(collection, "common rare", k=100, where=late)) == set(range(80, 100))
    assert set(words(collection, "rare word90", k=100, where=late)) == {90}


def test_both_rankings_are_fused_by_rank(filled: Collection):
    dense = filled.search("red cat", k=5)
    by_words = filled.search("red cat", k=5, mode="lexical")
    found = filled.search("red cat", k=5, mode="hybrid")
    assert {hit.id for hit in found} == {hit.id for hit in dense}
    for hit in found:
        parts = []
        for name, ranking in (("dense", dense), ("lexical", by_words)):
            parts += [Part(name, rank, one.score) for rank, one in enumerate(ranking, 1) if one.id == hit.id]
        assert hit.parts == tuple(parts)
        assert hit.score == pytest.approx(sum(1 / (60 + part.rank) for part in parts))
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def test_both_rankings_are_fused_by_weighted_scores(filled: Collection):
    found = filled.search("red cat", k=5, mode="hybrid", fusion="weighted", weights={"dense": 0.25, "lexical": 2})
    ranges = {
        name: [part.score for hit in found for part in hit.parts if part.name == name] for name in ("dense", "lexical")
    }
    for hit in found:
        wanted = sum(
            weight * (part.score - min(ranges[part.name])) / (max(ranges[part.name]) - min(ranges[part.name]))
            for part in hit.parts
            for weight in [{"dense": 0.25, "lexical": 2}[part.name]]
        )
        assert hit.score == pytest.approx(wanted)
    only = filled.search("red cat", k=5, mode="hybrid", weights={"lexical": 0})
    assert texts(only) == texts(filled.search("red cat", k=5))


def test_more_like_a_stored_document(filled: Collection):
    found = filled.search_like("cat", k=2)
    assert [hit.id for hit in found] == [hit.id for hit in filled.search("The red cat sat on the mat", k=3)][1:]
    assert [hit.id for hit in filled.search_like("cat", where={"n": 1})] == ["cats"]
    assert len(filled.search_like("cat", k=99)) == 4
    with pytest.raises(InputError, match="no document 'nowhere'"):
        filled.search_like("nowhere")


@pytest.mark.parametrize(
    ("query", "options", "says"),
    [
        ("x", {"mode": "fuzzy"}, "mode is"),
        ("x", {"mode": "hybrid", "fusion": "sum"}, "fusion is"),
        ("x", {"mode": "hybrid", "weights": {"sparse": 1}}, "weights are"),
        ("x", {"mode": "hybrid", "weights": {"dense": -1}}, "weights are"),
        ("x", {"mode": "hybrid", "weights": {"dense": 0, "lexical": 0}}, "weights are"),
        ("x", {"mode": "hybrid", "weights": 3}, "weights are"),
        (np.ones(16), {"mode": "lexical"}, "expected a string"),
        (np.ones(16), {"mode": "hybrid"}, "expected a string"),
    ],
)
def test_wrong_options_are_refused(filled: Collection, query: Any, options: Any, says: str):
    with pytest.raises(InputError, match=says):
        filled.search(query, **options)


def test_verify_finds_words_that_are_not_of_their_texts(filled: Collection, folder: Path):
    with sqlite3.connect(folder / "collection.db") as other:
        other.execute("INSERT INTO terms (terms, rowid, term) VALUES ('delete', 1, 'the red cat sat on the mat')")
    other.close()
    with pytest.raises(FileCorruptError, match="row 1 are not those of its text"):
        filled.verify()


def test_highlights_say_where_the_words_of_the_query_are(folder: Path, encoder: Any):
    text = "The CAFÉ, a cafe\u0301 and a cafeteria: 2 CAFES, cafe."
    with Collection.create(folder, encoder) as collection:
        collection.upsert(["a", "b"], [text, "nothing"])
        for mode in ("lexical", "hybrid", "dense"):
            (first,) = (hit for hit in collection.search("café 2", mode=mode, highlight=True, k=2) if hit.id == "a")
            assert [first.text[start:end] for start, end in first.highlights] == ["CAFÉ", "cafe\u0301", "2", "cafe"]
        assert collection.search("café", mode="lexical")[0].highlights == ()
        found = collection.search_many(["nothing", "teria"], mode="dense", highlight=True, k=2)
        places = [{hit.id: hit.highlights for hit in hits} for hits in found]
        assert places == [{"a": (), "b": ((0, 7),)}, {"a": (), "b": ()}]
        with pytest.raises(InputError, match="a query is no text"):
            collection.search(np.ones(16), highlight=True)


def test_queries_may_bring_their_vectors_along(collection: Collection, encoder: Any):
    collection.upsert(["a", "b"], ["red cat", "old town"])
    vectors = encoder.encode_query(["old town"])
    (hits,) = collection.search_many(["cat"], mode="hybrid", vectors=vectors)
    found = {hit.id: {part.name: part.rank for part in hit.parts} for hit in hits}
    assert found == {"a": {"dense": 2, "lexical": 1}, "b": {"dense": 1}}
    for wrong in ([], np.ones((2, 16)), 5):
        with pytest.raises(InputError, match="not one for each of 1 queries"):
            collection.search_many(["cat"], mode="hybrid", vectors=wrong)
