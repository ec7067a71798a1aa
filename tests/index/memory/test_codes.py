"""A first pass over int8 codes finds what a search through all vectors finds, whatever the vectors are."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder_tools.protocols import FloatMatrix
from index.memory.codes import CodedVectors, Codes, coded, nearest_coded, possible, step_for
from index.memory.snapshot import Snapshot
from index.memory.vectors import HeldVectors
from index.storage.vector_block import WriteToken


def snapshot_of(vectors: FloatMatrix, generation: int = 0) -> Snapshot:
    rows = np.arange(len(vectors), dtype=np.int64) * 3 + 1
    return Snapshot(WriteToken(1, ""), rows, HeldVectors.of(vectors), np.ones(len(vectors), dtype=bool), 0, generation)


def codes_of(vectors: FloatMatrix) -> Codes:
    """Of all rows, without a graph."""
    codes = CodedVectors().of(snapshot_of(vectors), wait=True)
    assert codes is not None
    return codes


def unit(vectors: FloatMatrix) -> FloatMatrix:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def made(kind: str, count: int, dim: int, seed: int) -> FloatMatrix:
    """Rows of a kind: spread out, close together, of few channels, with one channel that outweighs all, or equal."""
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((count, dim))
    if kind == "close":
        vectors = vectors * 0.01 + draw.standard_normal(dim)
    elif kind == "sparse":
        vectors *= draw.random((count, dim)) < 0.1
        vectors[:, 0] += 1e-3
    elif kind == "outlier":
        vectors[:, 1] = 50
    elif kind == "twins":
        vectors = vectors[draw.integers(0, max(1, count // 20), count)]
    return unit(vectors)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["spread", "close", "sparse", "outlier", "twins"]),
    count=st.integers(600, 3000),
    dim=st.sampled_from([2, 7, 64, 384]),
    k=st.sampled_from([1, 3, 10, 100]),
    share=st.floats(0.3, 1.0),
    seed=st.integers(0, 1000),
)
def test_it_finds_what_a_full_search_finds(kind: str, count: int, dim: int, k: int, share: float, seed: int):
    vectors = made(kind, count + 2, dim, seed)
    stored, queries = vectors[:-2], vectors[-2:]
    snapshot = snapshot_of(stored)
    mask = np.random.default_rng(seed).random(count) < share
    expected = snapshot.nearest(queries, k, mask)
    hits = nearest_coded(queries, k, snapshot, codes_of(stored), np.flatnonzero(mask))
    exact = queries.astype(np.float64) @ stored.T.astype(np.float64)
    for query, (rows, scores), (true_rows, true_scores) in zip(exact, hits, expected, strict=True):
        assert len(set(rows.tolist())) == len(true_rows)
        assert mask[(rows - 1) // 3].all()
        np.testing.assert_allclose(scores, true_scores, rtol=0, atol=2e-6)
        np.testing.assert_allclose(query[(rows - 1) // 3], np.sort(query[mask])[::-1][: len(rows)], rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ["spread", "close", "outlier", "twins"])
def test_few_are_read_where_each_costs_something(kind: str):
    """Not a proved bound, but six standard deviations: the same are found, and far fewer looked at."""
    vectors = made(kind, 4000, 128, 11)
    stored, queries = vectors[:-50], vectors[-50:]
    snapshot, codes, everything = snapshot_of(stored), codes_of(stored), np.arange(len(stored))
    counts = []
    for query, (_, scores) in zip(queries, snapshot.nearest(queries, 10), strict=True):
        read = possible(query, 10, codes, everything, held=False)
        # of vectors that are all alike, a thousand are read at most, which differ by less than that
        np.testing.assert_allclose(
            snapshot.compared(query, 10, read)[1], scores, atol=1e-4 if kind == "close" else 2e-6
        )
        counts.append((len(read), len(possible(query, 10, codes, everything, held=True))))
    few, proved = np.mean(counts, axis=0)
    assert few <= min(proved, 1000)
    assert kind != "spread" or few < 30


def test_of_equal_rows_the_older_one_comes_first():
    vectors = np.repeat(made("spread", 50, 16, 1), 40, axis=0)
    snapshot = snapshot_of(vectors)
    rows, _ = nearest_coded(vectors[80:81], 20, snapshot, codes_of(vectors), np.arange(len(vectors)))[0]
    assert rows.tolist() == snapshot.rows[80:100].tolist()


@pytest.mark.parametrize("step", [0.002, 0.01])
def test_a_code_is_as_near_as_its_residual_says(step: float):
    """Also where the step is so small that values are cut."""
    vectors = made("outlier", 500, 48, 3)
    codes, residual = coded(vectors, step)
    left = np.linalg.norm(vectors - codes * np.float32(step), axis=1)
    assert left.max() == pytest.approx(residual, rel=1e-5)
    assert np.abs(codes).max() <= 127
    assert coded(np.zeros((1, 4), dtype=np.float32), step_for(np.zeros((1, 4), dtype=np.float32)))[1] == 0


def same(codes: Codes | None, vectors: FloatMatrix) -> bool:
    if codes is None:
        return False
    expected, residual = coded(vectors, codes.shared.coding.step)
    return np.array_equal(codes.tail, expected) and codes.tail_residual >= residual


def test_codes_grow_with_the_snapshots_and_are_made_anew_with_their_generation():
    vectors = made("spread", 3000, 24, 4)
    vectors[:10] *= 0.01  # the step that suits these would cut all others
    kept = CodedVectors()
    for count in (10, 1000, 1001, 3000):
        codes = kept.of(snapshot_of(vectors[:count]))
        assert same(codes, vectors[:count])
    assert codes is not None
    assert codes.tail_residual < 0.1
    assert same(kept.of(snapshot_of(vectors[:500])), vectors[:500])  # a search that began before the last write
    assert same(kept.of(snapshot_of(vectors[::-1].copy(), generation=1)), vectors[::-1])
    assert kept.of(snapshot_of(vectors)) is None  # its vectors have moved


def test_many_rows_are_coded_beside_the_searches():
    vectors = made("spread", 30_000, 8, 5)
    kept = CodedVectors()
    assert kept.of(snapshot_of(vectors)) is None
    assert same(kept.of(snapshot_of(vectors), wait=True), vectors)


def test_threads_that_ask_at_once_get_the_same_codes():
    vectors = made("spread", 5000, 8, 6)
    kept, results = CodedVectors(), []

    def ask(count: int) -> None:
        results.append(same(kept.of(snapshot_of(vectors[:count]), wait=True), vectors[:count]))

    threads = [threading.Thread(target=ask, args=(count,)) for count in (5000, 10, 2500, 4999, 1, 5000) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * len(threads)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_rows(count: int):
    vectors = made("spread", 6, 8, 7)[:count] if count else np.empty((0, 8), dtype=np.float32)
    query = made("spread", 1, 8, 8)
    rows, scores = nearest_coded(query, 3, snapshot_of(vectors), codes_of(vectors), np.arange(count))[0]
    assert len(rows) == len(scores) == min(3, count)
