"""Collections that keep one bit a number in memory."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.vectors import unit_rows
from index import Collection
from index.ann import builder, hnsw_bits
from index.ann.hnsw import Hnsw
from index.ann.hnsw_bits import BitScan, HnswBits
from tests.index.conftest import RoleEncoder

N, DIM = 3000, 256


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "GRAPH_FROM", 1000)
    monkeypatch.setattr(builder, "_NEW_LEAST", 2000)


def vectors(count: int, seed: int, dim: int = DIM) -> Any:
    """Near others, as texts of one subject are."""
    centers = np.random.default_rng(0).standard_normal((300, dim))
    draw = np.random.default_rng(seed)
    return unit_rows(centers[draw.integers(300, size=count)] + 0.7 * draw.standard_normal((count, dim)))


def filled(folder: Path, stored: Any) -> Collection:
    collection = Collection.create(folder, RoleEncoder(stored.shape[1]), storage="binary")
    metadata = [{"n": number % 20} for number in range(len(stored))]
    collection.upsert(list(range(len(stored))), ["text"] * len(stored), metadata, vectors=stored)
    return collection


def recall(collection: Collection, stored: Any, queries: Any, below: int | None = None) -> float:
    alive = np.array([name for name in stored if below is None or name % 20 < below])
    matrix = np.stack([stored[name] for name in alive])
    shares = []
    for query in queries:
        hits = collection.search(query, 10, where=None if below is None else {"n": {"$lt": below}})
        exact = -np.sort(-(matrix @ query))[:10]
        for hit in hits:  # compared by the vectors themselves, in the precision of the disk
            assert hit.score == pytest.approx(float(stored[hit.id] @ query), abs=2e-3)
        shares.append(sum(hit.score >= exact[-1] - 2e-3 for hit in hits) / 10)
    return float(np.mean(shares))


def test_measuring_takes_little_memory(folder: Path):
    """A search by one bit a number compares thousands of candidates; those of all queries at once took gigabytes."""
    stored = vectors(N, 1)
    filled(folder, stored).close()
    with Collection.open(folder, None, recall=0.999) as collection:  # which no effort reaches
        tracemalloc.start()
        try:
            collection.compact()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 40 * stored.nbytes  # it was 247 times as much


def test_plain_and_filtered_searches_keep_the_recall_through_writes_and_deletes(folder: Path):
    stored = vectors(N, 1)
    truth, queries = dict(enumerate(stored)), vectors(30, 2)
    filled(folder, stored).close()
    with Collection.open(folder, None, recall=0.9) as collection:
        collection.compact()
        assert collection.stats().kind == "hnsw-bits"
        assert collection.stats().storage == "binary"
        assert (collection.stats().recall or 0) >= 0.9
        for below in (None, 1, 2, 10, 18):
            assert recall(collection, truth, queries, below) >= 0.85
        later = vectors(1200, 3)
        collection.upsert(list(range(N, N + 1200)), ["later"] * 1200, [{"n": one % 20} for one in range(1200)], later)
        truth |= {N + number: vector for number, vector in enumerate(later)}
        collection.delete(list(range(0, N, 7)))
        truth = {name: vector for name, vector in truth.items() if name >= N or name % 7}
        for below in (None, 2, 18):
            assert recall(collection, truth, queries, below) >= 0.85
        assert collection.verify() == len(truth)
    with Collection.open(folder, None, recall=0.9) as collection:
        assert recall(collection, truth, queries) >= 0.85
        assert collection.stats().kind == "hnsw-bits"


def test_a_graph_of_bits_grows_by_many_rows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(builder, "_NEW_LEAST", 100)
    stored = vectors(2 * N, 1)
    with filled(folder, stored[:N]) as collection:
        collection.compact()
        ids = list(range(N, 2 * N))
        collection.upsert(ids, ["later"] * N, [{"n": one % 20} for one in ids], stored[N:])
        collection.compact()
        assert len(collection.opened.state.now.builder.graph or ()) == 2 * N
        assert recall(collection, dict(enumerate(stored)), vectors(20, 2)) >= 0.85


def test_int8_is_taken_where_one_bit_finds_too_little(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hnsw_bits, "_MORE", 0)
    monkeypatch.setattr(hnsw_bits, "_MOST_TIMES", 1)
    stored = vectors(2000, 1, dim=12)
    filled(folder, stored).close()
    for why in ("it was built over 2000 documents", "it was on disk"):
        with Collection.open(folder, None, recall=0.97) as collection:
            collection.compact()
            graph = collection.opened.state.now.builder.graph
            assert graph is not None
            assert graph.kind == Hnsw()
            assert collection.stats().why == why
            assert recall(collection, dict(enumerate(stored)), vectors(20, 2, dim=12)) >= 0.9


def test_codes_take_a_bit_for_each_number_and_two_factors(folder: Path):
    import faiss

    stored = vectors(500, 1)
    index = HnswBits().make(stored, DIM, 500)
    HnswBits().add(index, stored, None)
    assert faiss.downcast_index(index.storage).code_size == DIM // 8 + 8


def test_a_scan_looks_at_nothing_else(folder: Path):
    stored = vectors(800, 1)
    index = HnswBits().make(stored, DIM, 800)
    HnswBits().add(index, stored, None)
    among = np.arange(1, 800, 3)
    for query in vectors(5, 2):
        near = BitScan(index).nearest(query, 100, among)
        assert set(near.tolist()) <= set(among.tolist())
        assert (np.diff(near) > 0).all()
        best = among[np.argsort(-(stored[among] @ query))[:10]]
        assert np.isin(best, near).mean() >= 0.8
