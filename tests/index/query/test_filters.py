"""Filters are exact: they find what a plain reading of their words finds, and never fewer than ``k`` of it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encoder_tools.errors import InputError
from index import Collection
from index.query.filters import All, Condition, Not, Some, has_no_condition, read_filter
from index.query.metadata_columns import Column, key_of

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, 2**53 + 1, -(2**60), 1e300]),
    st.sampled_from(["", "a", "b", "é", "A", "1"]),
)  # fmt: skip
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.sampled_from("xy"), SCALARS, max_size=2))
METADATA = st.dictionaries(st.sampled_from(["f", "g", "h.i"]), VALUES, max_size=3)
FIELDS = st.sampled_from(["f", "g", r"h\.i", "f.x", "g.y", "nowhere"])
CONDITIONS = st.one_of(
    VALUES.filter(lambda value: not isinstance(value, dict)),
    st.tuples(st.sampled_from(["$eq", "$ne", "$contains"]), VALUES).map(lambda pair: dict([pair])),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3)).map(lambda pair: dict([pair])),
    st.tuples(
        st.sampled_from(["$gt", "$gte", "$lt", "$lte"]),
        SCALARS.filter(lambda value: value is not None and not isinstance(value, bool)),
    ).map(lambda pair: dict([pair])),
    st.booleans().map(lambda value: {"$exists": value}),
)
FILTERS = st.recursive(
    st.dictionaries(FIELDS, CONDITIONS, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$not": inner}),
        st.tuples(st.sampled_from(["$and", "$or"]), st.lists(inner, max_size=3)).map(lambda pair: dict([pair])),
    ),
    max_leaves=5,
)


def plainly(metadata: dict[str, Any], wanted: Any) -> bool:
    """A filter read over one object, word by word."""
    if isinstance(wanted, All):
        return all(plainly(metadata, part) for part in wanted.parts)
    if isinstance(wanted, Some):
        return any(plainly(metadata, part) for part in wanted.parts)
    if isinstance(wanted, Not):
        return not plainly(metadata, wanted.part)
    value: Any = metadata
    for name in wanted.path:
        if not isinstance(value, dict) or name not in value:
            return wanted.operator == "exists" and not wanted.value
        value = value[name]
    if wanted.operator in ("gt", "gte", "lt", "lte"):
        return in_order(value, wanted.operator, wanted.value)
    return {
        "exists": lambda: wanted.value,
        "eq": lambda: same(value, wanted.value),
        "in": lambda: any(same(value, item) for item in wanted.value),
        "contains": lambda: isinstance(value, list) and any(same(item, wanted.value) for item in value),
    }[wanted.operator]()


def in_order(left: Any, name: str, right: Any) -> bool:
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in (left, right))
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        return False
    return {"gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}[name]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    return type(left) is type(right) and left == right


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(METADATA, max_size=12), FILTERS, st.integers(0, 2**32), st.data())
def test_filters_are_exact(tmp_path_factory: Any, encoder: Any, documents: Any, wanted: Any, seed: int, data: Any):
    folder = tmp_path_factory.mktemp("filters") / "c"
    vectors = np.random.default_rng(seed).standard_normal((len(documents), 16))
    with Collection.create(folder, encoder) as collection:
        half = len(documents) // 2
        truth: dict[int, Any] = {}
        for part in (range(half), range(half, len(documents))):  # a column grows
            collection.upsert(list(part), ["t"] * len(part), [documents[n] for n in part], vectors=vectors[list(part)])
            truth |= {n: documents[n] for n in part}
            check(collection, truth, vectors, wanted)
        gone = data.draw(st.lists(st.sampled_from(sorted(truth)), unique=True) if truth else st.just([]))
        collection.delete(gone)
        truth = {n: value for n, value in truth.items() if n not in gone}
        check(collection, truth, vectors, wanted)
        matching = [n for n, value in truth.items() if plainly(value, read_filter(wanted))]
        if has_no_condition(read_filter(wanted)):
            with pytest.raises(InputError, match="no condition"):
                collection.delete(where=wanted)
            assert collection.delete(matching) == len(matching)
        else:
            assert collection.delete(where=wanted) == len(matching)
        assert {document.id for document in collection.scan()} == truth.keys() - matching


def check(collection: Collection, truth: dict[int, Any], vectors: Any, wanted: Any) -> None:
    matching = [n for n, value in truth.items() if plainly(value, read_filter(wanted))]
    assert collection.count(where=wanted) == len(matching)
    assert [document.id for document in collection.scan(where=wanted)] == matching
    query = np.ones(16)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    best = sorted(matching, key=lambda n: -float(units[n] @ query))
    for k in (1, 3, 99):
        assert [hit.id for hit in collection.search(query, k=k, where=wanted)] == best[:k]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.25, 0.5, 1.0])
def test_the_best_among_those_that_match_whatever_their_share(folder: Path, encoder: Any, share: float):
    numbers = np.random.default_rng(0)
    vectors, n = numbers.standard_normal((2000, 16)), int(2000 * share)
    tags = np.array([1] * n + [0] * (2000 - n))
    numbers.shuffle(tags)
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(2000)), ["t"] * 2000, [{"tag": int(tag)} for tag in tags], vectors=vectors)
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for query in numbers.standard_normal((5, 16)):
            best = [int(row) for row in np.argsort(-(units @ query)) if tags[row]]
            found = collection.search(query, k=10, where={"tag": 1})
            assert [hit.id for hit in found] == best[:10]
            assert [hit.id for hit in collection.search(query, k=4, where={"tag": 1}, offset=3)] == best[3:7]


def test_filters_hold_after_rows_have_moved(folder: Path, encoder: Any):
    """Deleting a quarter makes the buffer anew, and places of rows change."""
    randomly, truth = random.Random(1), {}
    with Collection.create(folder, encoder) as collection:
        for step in range(60):
            ids = randomly.sample(range(200), 40)
            collection.upsert(ids, ["t"] * 40, [{"n": step % 5}] * 40, vectors=np.ones((40, 16)))
            truth |= dict.fromkeys(ids, step % 5)
            gone = randomly.sample(range(200), 30)
            collection.delete(gone)
            truth = {key: value for key, value in truth.items() if key not in gone}
            for n in range(5):
                wanted = {key for key, value in truth.items() if value == n}
                assert {hit.id for hit in collection.search(np.ones(16), k=300, where={"n": n})} == wanted
        assert collection.opened.state.now.snapshots.current.generation > 0


def test_pages_and_a_least_score(collection: Collection):
    collection.upsert(list(range(5)), ["t"] * 5, vectors=[[1.0] + [0.3 * n] + [0.0] * 14 for n in range(5)])
    query = [1.0] + [0.0] * 15
    assert [hit.id for hit in collection.search(query, k=2, offset=2)] == [2, 3]
    assert collection.search(query, k=2, offset=5) == []
    cut = collection.search(query, k=5)[2].score
    assert [hit.id for hit in collection.search(query, k=5, min_score=cut)] == [0, 1, 2]
    assert [hit.id for hit in collection.search(query, k=5, min_score=cut, offset=1)] == [1, 2]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_the_best_of_each_group_and_as_many_groups_as_there_are(collection: Collection, mode: Any):
    """Two hundred chunks of one text are in front of all others."""
    texts = [f"red cat {n}" for n in range(200)] + [f"blue cat {n}" for n in range(20)]
    metadata: list[Any] = [{"of": {"id": 0}}] * 200 + [{"of": {"id": n // 4}} for n in range(4, 20)] + [{}] * 4
    collection.upsert(list(range(220)), texts, metadata)
    every = [hit.id for hit in collection.search("red cat 7", k=220, mode=mode)]
    wanted, seen = [], set()
    for name in every:
        group = metadata[name].get("of", {}).get("id", f"own {name}")
        if group not in seen:
            seen.add(group)
            wanted.append(name)
    found = collection.search("red cat 7", k=50, mode=mode, group_by="of.id")
    if mode == "hybrid":  # what is deeper in one ranking moves others
        assert len(found) == len(wanted) == 9
    else:
        assert [hit.id for hit in found] == wanted
        assert [hit.id for hit in collection.search("red cat 7", k=2, offset=1, mode=mode, group_by="of.id")] == wanted[
            1:3
        ]


def test_hits_that_are_unlike_each_other(collection: Collection):
    """Ten copies of the nearest, then others: by hand, one of the copies, then what is near and new."""
    numbers = np.random.default_rng(4)
    near, query = numbers.standard_normal(16), np.ones(16)
    vectors = np.concatenate([np.tile(query + 0.1 * near, (10, 1)), query + numbers.standard_normal((30, 16))])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    collection.upsert(list(range(40)), ["t"] * 40, [{"n": n} for n in range(40)], vectors=vectors)
    scores = units @ query / 4
    chosen = [int(np.argmax(scores))]
    while len(chosen) < 6:
        worth = [
            -np.inf if n in chosen else 0.5 * scores[n] - 0.5 * max(float(units[n] @ units[c]) for c in chosen)
            for n in range(40)
        ]
        chosen.append(int(np.argmax(worth)))
    found = collection.search(query, k=6, diversity=0.5)
    assert [hit.id for hit in found] == chosen
    assert sum(hit.id < 10 for hit in found) == 1
    assert [hit.id for hit in collection.search(query, k=2, offset=2, diversity=0.5)] == chosen[2:4]
    assert [hit.id for hit in collection.search(query, k=12)][:10] == list(range(10))
    assert collection.search(query, where={"n": 99}, diversity=0.5) == []


@pytest.mark.parametrize(
    "options",
    [
        {"group_by": ""},
        {"group_by": 3},
        {"group_by": "$or"},
        {"diversity": 2},
        {"diversity": 0.5, "mode": "hybrid"},
        {"min_score": "high"},
        {"min_score": float("nan")},
        {"offset": -1},
        {"offset": 1.5},
    ],
)
def test_wrong_pages_and_scores_are_refused(collection: Collection, options: Any):
    with pytest.raises(InputError):
        collection.search("x", **options)


def nested(depth: int) -> Any:
    return {"$not": nested(depth - 1)} if depth else {"f": 1}


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("f = 1", "expected an object"),
        ([], "expected an object"),
        ({"f": {"$like": 1}}, "expected one of"),
        ({"f": {}}, "no condition"),
        ({"f": {"$in": "abc"}}, "a list of values"),
        ({"f": {"$exists": 1}}, "true or false"),
        ({"f": {"$gt": None}}, "a number or a string"),
        ({"f": {"$gt": True}}, "a number or a string"),
        ({"f": float("nan")}, "a JSON value"),
        ({"f": {"$eq": {1: 2}}}, "a JSON value"),
        ({"f": {1, 2}}, "a JSON value"),
        ({"$xor": []}, "where a field stands"),
        ({"$and": {"f": 1}}, "a list of filters"),
        ({"$or": [1]}, "expected an object"),
        ({"": 1}, "expected a name"),
        ({3: 1}, "expected a name"),
        (nested(40), "nested deeper"),
        ({"$or": [{"f": 1}] * 1001}, "more than 1000"),
        ({"f": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}, "a JSON value"),
    ],
)
def test_a_wrong_filter_is_one_clear_error_everywhere(collection: Collection, wanted: Any, says: str):
    collection.upsert(["a"], ["x"])
    for call in (
        lambda: collection.search("x", where=wanted),
        lambda: collection.count(where=wanted),
        lambda: collection.scan(where=wanted),
        lambda: collection.delete(where=wanted),
    ):
        with pytest.raises(InputError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert collection.count() == 1


def test_delete_takes_ids_or_a_filter(collection: Collection):
    for given_ in ({}, {"ids": ["a"], "where": {"f": 1}}):
        with pytest.raises(InputError, match="one of them"):
            collection.delete(**given_)


def test_a_range_over_numbers_that_floats_do_not_hold_is_exact():
    column = Column()
    column.extend([2**53, 2**53 + 1, 2**53 + 2, 1.5])
    for value, wanted in ((2**53, [False, True, True, False]), (2**53 + 1, [False, False, True, False])):
        assert column.mask(Condition(("f",), "gt", value), 4).tolist() == wanted
    assert key_of(1) == key_of(1.0) != key_of(True)
