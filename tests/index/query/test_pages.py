"""One query has one ranking: pages put together are one long call, and the first k are the same whatever k is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index import Collection
from index.ann import builder

N, DIM = 600, 16
WORDS = "red cat old town green river stone bird night road".split()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory):
    """Searched through a graph, with texts of few words, so that ranks and scores tie often."""
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, size=generator.integers(1, 6))) for _ in range(N)]
    patch = pytest.MonkeyPatch()
    patch.setattr(builder, "GRAPH_FROM", 100)

    class Model:
        dim, fingerprint = DIM, "pages"

    folder: Path = tmp_path_factory.mktemp("pages") / "collection"
    Collection.create(folder, Model()).close()
    with Collection.open(folder, None, recall=0.5) as collection:
        metadata = [{"n": n % 7, "group": n // 3} for n in range(N)]
        collection.upsert(list(range(N)), texts, metadata, vectors=generator.standard_normal((N, DIM)))
        collection.compact()
        yield collection
    patch.undo()


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "fusion": st.sampled_from(["rrf", "weighted"]),
        "weights": st.sampled_from([{"dense": 2.0}, {"lexical": 0.1}, {"dense": 0.0}, {"lexical": 0.0}]),
        "where": st.sampled_from([{"n": 3}, {"n": {"$gt": 0}}, {"$text": "cat"}]),
        "group_by": st.just("group"),
    },
)


def ranking(collection: Collection, seed: int, k: int, **options: Any) -> list[tuple[Any, float]]:
    generator = np.random.default_rng(seed)
    text = " ".join(generator.choice([*WORDS, "nowhere"], size=3))
    (hits,) = collection.search_many([text], k, vectors=generator.standard_normal((1, DIM)), **options)
    return [(hit.id, hit.score) for hit in hits]


@settings(max_examples=150, deadline=None)
@given(OPTIONS, st.integers(0, 10**6), st.lists(st.integers(1, 250), min_size=1, max_size=6))
def test_pages_put_together_are_one_long_call(stored: Collection, options: Any, seed: int, sizes: list[int]):
    whole = ranking(stored, seed, sum(sizes), mode="hybrid", **options)
    pages, offset = [], 0
    for size in sizes:
        pages += ranking(stored, seed, size, mode="hybrid", offset=offset, **options)
        offset += size
    assert pages == whole
    assert ranking(stored, seed, sizes[0], mode="hybrid", **options) == whole[: sizes[0]]


@settings(max_examples=20, deadline=None)
@given(OPTIONS, st.integers(0, 10**6))
def test_every_document_has_its_place(stored: Collection, options: Any, seed: int):
    found = ranking(stored, seed, 2 * N, mode="hybrid", **options)
    names = [name for name, _ in found]
    assert len(set(names)) == len(names)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    documents = list(stored.scan(where=options.get("where")))
    if "group_by" in options:
        assert len(names) == len({document.metadata["group"] for document in documents})
    else:
        assert set(names) == {document.id for document in documents}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([{}, {"group_by": "group"}, {"where": {"n": 3}}]), st.integers(0, 10**6), st.integers(1, 300))
def test_diversity_has_one_ranking_too(stored: Collection, options: Any, seed: int, k: int):
    whole = ranking(stored, seed, N, diversity=0.4, **options)
    assert ranking(stored, seed, k, diversity=0.4, **options) == whole[:k]
    assert ranking(stored, seed, k, diversity=0.4, offset=50, **options) == whole[50 : 50 + k]
    assert len({name for name, _ in whole}) == len(whole)
