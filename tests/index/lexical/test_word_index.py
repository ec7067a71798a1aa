"""The index of words of a collection: every write visible, files that are checked, and the ranking of scoring all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Collection
from index.lexical import word_index
from index.lexical.words_file import MANIFEST_NAME

WORDS = [f"w{rank}" for rank in range(200)]
QUERIES = ["w1", "w2 w40", "w0 w1 w2", "w7 w30 w150", "w199 w0", "nothing w3", "nothing"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins at 20,000 documents begins at 200."""
    for name, value in {"WORDS_FROM": 200, "_NEW_LEAST": 100, "_MOST_NEW": 400, "_FEW": 50}.items():
        monkeypatch.setattr(word_index, name, value)


def texts_of(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 25, size=count)
    return [" ".join(WORDS[rank % 200] for rank in generator.zipf(1.3, size=size)) for size in sizes]


def fill(collection: Collection, ids: list[Any], seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(ids), collection.about.dim))
    collection.upsert(ids, texts_of(len(ids), seed), [{"n": n % 10} for n in range(len(ids))], vectors)


def ranking(collection: Collection, query: str, k: int = 10, **options: Any) -> list[tuple[Any, float]]:
    return [(hit.id, hit.score) for hit in collection.search(query, k, mode="lexical", **options)]


def both_ways(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches by the postings, and by FTS5: equal where nothing was deleted since the postings were made."""
    for options in ({}, {"where": {"n": 3}}, {"where": {"n": {"$gte": 2}}}, {"offset": 5}):
        for query in QUERIES:
            ours = ranking(collection, query, **options)
            with monkeypatch.context() as patch:
                patch.setattr(word_index.WordIndex, "find", lambda *_: None)
                theirs = ranking(collection, query, **options)
            np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], rtol=1e-9)
            assert {one for one, score in ours if score > ours[-1][1]} == {
                one for one, score in theirs if score > theirs[-1][1] * (1 + 1e-9)
            }


@pytest.fixture
def collection(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as made:
        yield made


def state(collection: Collection) -> Any:
    return collection.opened.state.words._state


def test_searches_give_what_fts5_gives_and_see_every_write(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    fill(collection, list(range(600)), 0)
    collection.compact()
    assert len(state(collection).base) == 600
    both_ways(collection, monkeypatch)
    for number in range(6):  # in parts, each seen at once
        fill(collection, [f"{number}-{n}" for n in range(15)], number + 1)
        both_ways(collection, monkeypatch)
    assert len(state(collection).base) == 600
    assert sum(len(one.rows) for one in state(collection).recent) == 90
    assert len(state(collection).recent) < 6
    collection.upsert(["new"], ["w5 neverbefore"], vectors=np.ones((1, collection.about.dim)))
    assert ranking(collection, "neverbefore")[0][0] == "new"
    collection.delete(["new", *range(50)])
    assert ranking(collection, "neverbefore") == []
    gone = set(range(50))
    for query in QUERIES:
        assert not gone & {one for one, _ in ranking(collection, query, 600)}
    fill(collection, list(range(1000, 1300)), 9)  # more than may be new
    collection.compact()
    assert len(state(collection).base) == collection.count()
    assert not state(collection).recent
    both_ways(collection, monkeypatch)


def test_many_new_rows_are_ranked_by_fts5_until_there_are_postings(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
):
    fill(collection, list(range(300)), 0)
    collection.compact()
    with monkeypatch.context() as patch:
        patch.setattr(word_index.WordIndex, "_due", lambda *_: False)
        fill(collection, list(range(1000, 1500)), 1)
        assert state(collection) is not None
        with collection.opened.read_view() as view:
            assert view.words.find(view.reader, view.snapshot, "w1", 10, None) is None
        both_ways(collection, monkeypatch)
    collection.delete(list(range(1000, 1500)))
    collection.delete(list(range(150)))
    assert len(ranking(collection, "w1", 400)) <= 150  # too few for postings: FTS5 again
    assert state(collection) is None


def test_what_is_on_disk_is_used_again_and_what_is_damaged_is_made_again(
    collection: Collection, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fill(collection, list(range(400)), 0)
    collection.compact()
    expected = [ranking(collection, query) for query in QUERIES]
    folder = collection.folder
    collection.close()

    def opened(of: Path) -> list[Any]:
        with Collection.open(of, encoder) as again:
            again.search("w1", mode="lexical")
            thread = again.opened.state.words._thread
            if thread is not None:
                thread.join()
            assert len(state(again).base) == 400
            both_ways(again, monkeypatch)
            return [ranking(again, query) for query in QUERIES]

    made: list[int] = []
    build = word_index.postings_of_table
    monkeypatch.setattr(word_index, "postings_of_table", lambda *args: (made.append(1), build(*args))[1])
    assert opened(folder) == expected
    assert made == []
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    data = folder / manifest["file"]["name"]
    wrong = {**manifest, "sizes": {**manifest["sizes"], "rows": -5}}
    damages: list[Any] = [
        lambda of: (of / data.name).write_bytes((of / data.name).read_bytes()[:-3]),
        lambda of: (of / data.name).write_bytes(bytes([255]) + (of / data.name).read_bytes()[1:]),
        lambda of: (of / data.name).unlink(),
        lambda of: (of / MANIFEST_NAME).write_text("{"),
        lambda of: (of / MANIFEST_NAME).write_text(json.dumps({**manifest, "format_version": 9})),
        lambda of: (of / MANIFEST_NAME).write_text(json.dumps({**manifest, "rules": "other"})),
        lambda of: (of / MANIFEST_NAME).write_text(json.dumps({**manifest, "token": "other"})),
        lambda of: (of / MANIFEST_NAME).write_text(json.dumps(wrong)),
        lambda of: (of / MANIFEST_NAME).write_text(
            json.dumps({**manifest, "file": {**manifest["file"], "name": "../x"}})
        ),
    ]
    for number, damage in enumerate(damages):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(folder, copy)
        damage(copy)
        assert opened(copy) == expected
        assert len(made) == number + 1, number
        assert len(list(copy.glob("words-*.bin"))) == 1


def test_another_process_sees_it_and_hybrid_searches_use_it(collection: Collection, encoder: Any):
    fill(collection, list(range(400)), 0)
    collection.compact()
    with Collection.open(collection.folder, encoder) as other:
        fill(other, ["later"], 5)
        other.upsert(["later"], ["w1 onlyhere"], vectors=np.ones((1, other.about.dim)))
        assert ranking(collection, "onlyhere")[0][0] == "later"
        assert ranking(other, "onlyhere")[0][0] == "later"
        hits = collection.search("onlyhere w3", 200, mode="hybrid")
        assert "later" in [hit.id for hit in hits]
        pages = [
            hit.id for start in range(0, 60, 7) for hit in collection.search("w3 w9", 7, mode="hybrid", offset=start)
        ]
        whole = [hit.id for hit in collection.search("w3 w9", 63, mode="hybrid")]
        assert pages == whole
