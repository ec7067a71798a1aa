"""Efforts are chosen by what the worst group of queries needs, and easy queries spend less."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from index.ann.ann_index import AnnIndex
from index.ann.hnsw import Hnsw
from index.ann.ivf import Ivf
from index.ann.tuning import KS, Easy, Tuning, tune
from index.memory.snapshot import Snapshot
from index.memory.vectors import HeldVectors
from index.storage.vector_block import WriteToken

N, DIM = 4000, 32


class Ladder:
    """Efforts that a search may spend."""

    efforts = (8, 16, 32, 64, 128)

    def least_effort(self, k: int) -> int:
        return 1


EFFORTS = Ladder()


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """Of vectors close to each other in forty places."""
    draw = np.random.default_rng(0)
    centers = draw.standard_normal((40, DIM))
    vectors = unit(centers[draw.integers(40, size=N)] + 0.3 * draw.standard_normal((N, DIM)))
    return Snapshot(WriteToken(1, ""), np.arange(N, dtype=np.int64), HeldVectors.of(vectors), np.ones(N, dtype=bool))


def fake(snapshot: Snapshot, enough: int, near: float) -> Any:
    """A search that finds everything with an effort, and with less what is near to the query alone."""

    def search(queries: Any, k: int, effort: int) -> Any:
        found = snapshot.nearest(queries, N)
        from_there = [slice(0, k) if effort >= enough or scores[0] >= near else slice(N - k, N) for _, scores in found]
        return tuple(np.stack([one[part][at] for one, at in zip(found, from_there, strict=True)]) for part in (0, 1))

    return search


@pytest.mark.parametrize("enough", [16, 64, 128])
def test_what_far_queries_need_is_not_spent_on_near_ones(snapshot: Snapshot, enough: int):
    tuned = tune(fake(snapshot, enough, 0.74), snapshot, {}, EFFORTS, 0.95)
    assert tuned.efforts == dict.fromkeys(KS, enough)
    assert tuned.worst >= 0.95
    for k in (1, 10):
        easy = tuned.easy[k]
        assert easy.effort == EFFORTS.efforts[0]
        assert tuned.easy_for(k) == easy


def test_nothing_is_tried_first_where_no_score_tells_the_two_apart(snapshot: Snapshot):
    draw = np.random.default_rng(5)

    def blind(queries: Any, k: int, effort: int) -> Any:
        rows, scores = (np.stack(part) for part in zip(*snapshot.nearest(queries, k), strict=True))
        lucky = draw.random((len(rows), 1)) < 0.5
        return rows, np.where((effort >= 64) | lucky, scores, scores - 0.01)

    tuned = tune(blind, snapshot, {}, EFFORTS, 0.95)
    assert tuned.efforts[1] == 64
    assert 1 not in tuned.easy


@pytest.mark.parametrize("kind", [Hnsw(), Ivf()])
def test_the_promise_holds_for_queries_that_were_not_measured(snapshot: Snapshot, kind: Any):
    graph = AnnIndex.build(kind, snapshot, threading.Event()).tuned(snapshot, 0.95, {})
    assert graph.tuning.worst >= 0.95
    draw = np.random.default_rng(9)
    stored = snapshot.vectors.part(0, N)
    groups = {
        "near": unit(stored[:150] + 0.1 * draw.standard_normal((150, DIM))),
        "far": unit(stored[:150] + unit(draw.standard_normal((150, DIM)))),
        "between": unit(stored[:150] + stored[-150:]),
    }
    for name, queries in groups.items():
        for k in KS:
            shares = []
            for query, (_, scores) in zip(queries, snapshot.nearest(queries, k), strict=True):
                hits = snapshot.compared(query, k, graph.nearest_alive(query[None], k, snapshot))[1]
                shares.append((hits >= scores[-1] - 1e-5).mean())
            assert np.mean(shares) >= 0.9, (name, k)


def test_an_effort_is_what_is_spent(snapshot: Snapshot):
    """A graph looks at as many as it is asked for: an effort below says nothing of a search for fewer."""
    tuning = AnnIndex.build(Hnsw(), snapshot, threading.Event()).tuned(snapshot, 0.5, {}).tuning
    for k in KS:
        assert tuning.efforts[k] >= k
        assert k not in tuning.easy or k <= tuning.easy[k].effort < tuning.efforts[k]


@pytest.mark.parametrize("k", [1, 5, 10, 40, 100, 150])
def test_a_search_spends_what_was_measured_for_as_many_or_more(snapshot: Snapshot, k: int):
    """Between two that were measured, the effort is that of the next one: nothing is known of one between."""
    graph = AnnIndex.build(Hnsw(), snapshot, threading.Event()).with_tuning(Tuning({1: 20, 10: 40, 100: 400}, {}))
    spent = []
    graph.candidates = lambda query, depth, effort: (
        spent.append(effort)
        or AnnIndex.candidates(  # type: ignore[method-assign]
            graph, query, depth, effort
        )
    )
    graph.nearest_alive(snapshot.vectors.part(0, 1), k, snapshot)
    assert spent == [{1: 20, 5: 40, 10: 40, 40: 400, 100: 400, 150: 600}[k]]


def test_another_tuning_is_of_the_same_index(snapshot: Snapshot):
    """What is derived from its codes need not be made again."""
    graph = AnnIndex.build(Hnsw(), snapshot, threading.Event())
    codes = graph.codes
    other = graph.with_tuning(Tuning({1: 20, 10: 40, 100: 400}, {}))
    assert other.codes is codes
    assert graph.tuning.efforts != other.tuning.efforts


def test_easy_efforts_beyond_the_last_measured_grow_in_proportion():
    tuning = Tuning({1: 16, 10: 16, 100: 100}, {}, {10: Easy(8, 0.5), 100: Easy(40, 0.4)})
    assert tuning.easy_for(1) is None
    assert tuning.easy_for(7) == Easy(8, 0.5)
    assert tuning.easy_for(100) == Easy(40, 0.4)
    assert tuning.easy_for(250) == Easy(100, 0.4)
    assert Tuning({1: 16, 10: 16, 100: 100}, {}).easy_for(250) is None


def test_only_what_may_be_among_the_nearest_is_compared(snapshot: Snapshot):
    """Codes are near enough that the candidates of ten are not many more than ten."""
    graph = AnnIndex.build(Hnsw(), snapshot, threading.Event())
    queries = unit(np.random.default_rng(3).standard_normal((50, DIM)))
    counts = []
    for query, (rows, _) in zip(queries, snapshot.nearest(queries, 10), strict=True):
        candidates = graph.nearest_alive(query[None], 10, snapshot, 512)
        assert np.isin(rows, snapshot.rows[candidates]).mean() >= 0.9
        counts.append(len(candidates))
    assert min(counts) >= 10
    assert np.mean(counts) < 25
