"""Filtered dense search: the same hits, whichever way they are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Collection, Plan
from index.ann import builder
from index.query import planner
from index.query.filters import read_filter
from index.query.planner import Cost, Costs, Planner, measure
from index.query.read_view import ReadView

N, DIM = 4000, 16


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def vectors(count: int = N, seed: int = 0) -> Any:
    return unit(np.random.default_rng(seed).standard_normal((count, DIM)))


@pytest.fixture
def collection(folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    """With a graph, a small index over later rows, a tail that is in neither, and rows that have gone."""
    monkeypatch.setattr(builder, "GRAPH_FROM", 1000)
    with Collection.create(folder, encoder) as made:
        given, metadata = vectors(), [{"n": number % 100, "east": bool(v[0] > 0)} for number, v in enumerate(vectors())]
        made.upsert(list(range(3000)), ["t"] * 3000, metadata[:3000], vectors=given[:3000])
        made.compact()
        made.upsert(list(range(3000, 3900)), ["t"] * 900, metadata[3000:3900], vectors=given[3000:3900])
        made.upsert(list(range(3900, N)), ["t"] * 100, metadata[3900:], vectors=given[3900:])
        made.delete(list(range(0, N, 50)))
        yield made


def planned(view: ReadView, query: Any, k: int, mask: Any, monkeypatch: pytest.MonkeyPatch, price: float) -> Any:
    """Hits and plan where a scan costs ``price`` seconds a row, and the graph a microsecond for a unit of effort."""
    planner = view.planner
    monkeypatch.setattr(planner, "costs", lambda *_: Costs(Cost(0.0, price), Cost(0.0, 1e-6)))
    (neighbors,), plan = planner.nearest(query[None], k, view.snapshot, mask)
    return neighbors, plan


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("k", [1, 10, 50])
def test_both_plans_find_the_same(collection: Collection, monkeypatch: pytest.MonkeyPatch, share: float, k: int):
    with collection.opened.read_view() as view:
        mask = (np.random.default_rng(1).random(len(view.snapshot.rows)) < share) & view.snapshot.alive
        same = 0.0
        for query in vectors(40, seed=3):
            (exact, exact_scores), scanned = planned(view, query, k, mask, monkeypatch, 0.0)
            (rows, scores), plan = planned(view, query, k, mask, monkeypatch, 1.0)
            assert scanned == Plan("exact", int(mask.sum()))
            assert (plan.kind, plan.matches) == ("graph", int(mask.sum()))
            assert plan.depth >= k
            assert mask[np.searchsorted(view.snapshot.rows, rows)].all()
            assert len(set(rows.tolist())) == k
            assert (np.diff(scores) <= 0).all()
            np.testing.assert_allclose(
                exact_scores, np.sort(view.snapshot.vectors.take(np.flatnonzero(mask)) @ query)[::-1][:k], atol=2e-6
            )
            same += len(np.intersect1d(rows, exact)) / k
        assert same / 40 > 0.95


def test_matches_that_lie_far_from_the_query_are_scanned_after_all(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
):
    """Half of all match, but none of them is near: the graph would have to be walked through to the other side."""
    with collection.opened.read_view() as view:
        side = view.snapshot.vectors.part(0, len(view.snapshot.rows))[:, 0]
        mask = (side < np.median(side)) & view.snapshot.alive
        query = unit(np.eye(1, DIM, dtype=np.float32) + 0.01)[0]
        # a scan costs what 800 units of effort do
        (_, scores), plan = planned(view, query, 10, mask, monkeypatch, 4e-7)
        assert plan.kind == "exact"
        np.testing.assert_allclose(
            scores, np.sort(view.snapshot.vectors.take(np.flatnonzero(mask)) @ query)[::-1][:10], atol=2e-6
        )


def test_a_row_behind_many_that_do_not_match_is_seen_wherever_it_is(
    folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    """The small index holds the nearest rows of all, which do not match, and behind them the nearest one that does."""
    monkeypatch.setattr(builder, "GRAPH_FROM", 1000)
    query = np.eye(1, DIM, dtype=np.float32)[0]
    draw = np.random.default_rng(2)
    far = unit(draw.standard_normal((3000, DIM)) - 2 * query)
    near = unit(0.02 * draw.standard_normal((600, DIM)) + query)
    between = unit(np.ones((1, DIM)) * 0.1 + query)
    with Collection.create(folder, encoder) as made:
        made.upsert(list(range(3000)), ["t"] * 3000, [{"match": True}] * 3000, vectors=far)
        made.compact()
        metadata = [{"match": False}] * 600 + [{"match": True}]
        made.upsert(list(range(3000, 3601)), ["t"] * 601, metadata, vectors=np.concatenate([near, between]))
        with made.opened.read_view() as view:
            view.builder.wait_until_built(view.snapshot)
            assert view.builder.segments is not None
            assert view.builder.segments.recent is not None
            mask = view.mask(read_filter({"match": True}))
            (rows, _), _ = planned(view, query, 5, mask, monkeypatch, 1.0)
            assert rows[0] == view.snapshot.rows[-1]


def test_few_matches_or_none_are_scanned(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    with collection.opened.read_view() as view:
        alive = np.flatnonzero(view.snapshot.alive)
        for count in (0, 1, 9, 10):
            mask = np.zeros(len(view.snapshot.rows), dtype=bool)
            mask[alive[:count]] = True
            (rows, _), plan = planned(view, vectors(1, 5)[0], 10, mask, monkeypatch, 1.0)
            assert (len(rows), plan.kind) == (count, "exact")


def test_a_search_with_a_filter_goes_through_the_planner(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    plans = []
    nearest = Planner.nearest

    def noted(self: Planner, *arguments: Any) -> Any:
        found = nearest(self, *arguments)
        plans.append(found[1])
        return found

    monkeypatch.setattr(Planner, "nearest", noted)
    for where in ({"n": {"$lt": 90}}, {"n": 3}, {"east": True}, {"$text": "t"}):
        hits = collection.search(vectors(1, 7)[0], k=5, where=where)
        assert len(hits) == 5
        assert len({hit.id for hit in hits}) == 5
    assert [plan.matches > 5 for plan in plans] == [True] * 4
    assert [hit.metadata["n"] for hit in collection.search(vectors(1, 8)[0], k=5, where={"n": 7})] == [7] * 5


def test_hits_say_how_they_were_found(collection: Collection):
    query = vectors(1, 9)[0]
    plan = collection.search(query, k=5, where={"n": 3}).plan
    assert plan == Plan("exact", sum(1 for number in range(N) if number % 100 == 3 and number % 50))
    whole = collection.search(query, k=5).plan
    assert whole is not None
    assert (whole.kind, whole.matches, whole.depth) == ("graph", N - N // 50, 5)
    assert whole.effort == collection.stats().effort
    assert collection.search_like(1, k=3).plan is not None
    assert {hits.plan for hits in collection.search_many(np.stack([query, query]), k=5)} == {whole}


def test_a_search_by_words_has_no_plan_and_one_by_both_has(collection: Collection):
    assert collection.search("t", k=5, mode="lexical").plan is None
    assert collection.search("t", k=5, mode="hybrid").plan is not None


def test_the_costs_are_measured_once_for_each_graph(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    measured = []
    monkeypatch.setattr(planner, "measure", lambda *given: measured.append(given[0]) or measure(*given))
    query = vectors(1, 9)[0]
    plans = [collection.search(query, k=5, where={"n": {"$lt": 50}}).plan for _ in range(5)]
    assert len(set(plans)) == 1
    assert len(measured) == 1
    collection.compact()
    collection.upsert(list(range(2000)), ["u"] * 2000, [{"n": 1}] * 2000, vectors=vectors(2000, 4))
    collection.compact()
    collection.search(query, k=5, where={"n": {"$lt": 50}})
    assert len(measured) == 2


def test_measured_costs_are_positive_and_grow(collection: Collection):
    with collection.opened.read_view() as view:
        segments = view.builder.segments_for(view.snapshot)
        assert segments is not None
        codes = view.builder.codes(view.snapshot)
        assert codes is not None
        costs = measure(segments.main, view.snapshot, codes)
    for cost in costs:
        assert 0 <= cost.launch < 1
        assert 0 < cost.unit < 1
        assert cost.seconds(100) > cost.seconds(10)


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_pages_of_scans_are_parts_of_one_ranking(collection: Collection, monkeypatch: pytest.MonkeyPatch, mode: Any):
    """To the last digit, though each page has its own candidates."""
    monkeypatch.setattr(Planner, "costs", lambda *_: Costs(Cost(0.0, 0.0), Cost(0.0, 1.0)))
    query = "t" if mode == "hybrid" else vectors(1, 11)[0]
    options: dict[str, Any] = {"where": {"n": {"$lt": 20}}, "mode": mode}
    whole = collection.search(query, k=90, **options)
    assert whole.plan is not None
    assert whole.plan.kind == "exact"
    pages = [collection.search(query, k=10, offset=10 * page, **options) for page in range(9)]
    assert [hit for page in pages for hit in page] == whole
