"""The same operations, drawn at random, give the same on every engine as in a folder.

ENCODER_TOOLS_SEED says from where; ENCODER_TOOLS_STEPS how many (40).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from encoder_tools.errors import EncoderToolsError
from index import Chunking, Collection
from tests.engines.test_contract import Counting

SEED, STEPS = int(os.environ.get("ENCODER_TOOLS_SEED", "0")), int(os.environ.get("ENCODER_TOOLS_STEPS", "40"))
WORDS = ["cat", "Cats", "rain", "e-mail", "C++", "v1.2.3", "東京都", "京都", "Straße", "été", "ก็", "user_id", "the"]
VALUES: list[Any] = [0, 1, 1.0, -1.5, True, None, "a", "B", "", [1, "a"], {"b": 1}, 2**60, 1e300, "é"]
IDS: list[Any] = [*range(8), *(str(number) for number in range(4)), "a b", 'q"', "é"]


def text(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(0, 12)))


def metadata(draw: random.Random) -> dict[str, Any]:
    return {name: draw.choice(VALUES) for name in draw.sample(["n", "m", "deep", 'x"y'], draw.randint(0, 3))}


def condition(draw: random.Random) -> dict[str, Any]:
    field, kind = draw.choice(["n", "m", "deep.b", 'x"y']), draw.randint(0, 6)
    if kind == 0:
        return {"$text": text(draw) or "cat"}
    if kind == 1:
        return {"$not": condition(draw)}
    if kind == 2:
        return {draw.choice(["$or", "$and"]): [condition(draw), condition(draw)]}
    if kind == 3:
        return {field: {draw.choice(["$gt", "$gte", "$lt", "$lte"]): draw.choice([0, 1.5, -2, "a", "", 2**60])}}
    if kind == 4:
        return {field: {"$exists": draw.random() < 0.5}}
    if kind == 5:
        return {field: {draw.choice(["$in", "$nin"]): draw.sample(VALUES, 3)}}
    return {field: {draw.choice(["$eq", "$ne", "$contains"]): draw.choice(VALUES)}}


def change(draw: random.Random) -> Callable[[Collection], Any]:
    """A call that writes, the same for every collection."""
    ids = draw.sample(IDS, draw.randint(1, 5))
    kind = draw.choice(["upsert"] * 5 + ["chunks", "chunks", "delete", "where", "metadata", "compact"])
    texts, values, where = [text(draw) for _ in ids], [metadata(draw) for _ in ids], condition(draw)
    if kind == "upsert":
        return lambda one: one.upsert(ids, texts, values)
    if kind == "chunks":
        longer = [f"{own}\n\n{text(draw)} cat\n\n" * draw.randint(1, 6) for own in texts]
        return lambda one: one.upsert(ids, longer, values, chunking=Chunking(tokens=16, overlap=0))
    if kind == "delete":
        return lambda one: one.delete(ids)
    if kind == "where":
        return lambda one: one.delete(where=where)
    if kind == "metadata":
        return lambda one: one.set_metadata(ids, values)
    return lambda one: one.compact()


def outcome(call: Callable[[Collection], Any], collection: Collection) -> Any:
    try:
        return call(collection)
    except EncoderToolsError as error:
        return type(error).__name__


def state(collection: Collection) -> list[Any]:
    return [(one.id, one.text, one.metadata) for one in collection.scan()]


@pytest.mark.parametrize("engine", ["postgres_address", "milvus_address"])
def test_what_is_done_at_random_gives_the_same_as_in_a_folder(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
):
    draw = random.Random(SEED)
    address = request.getfixturevalue(engine)()
    with Collection.create(tmp_path / "c", Counting()) as folder, Collection.create(address, Counting()) as other:
        for step in range(STEPS):
            call = change(draw)
            results = [outcome(call, one) for one in (folder, other)]
            assert results[0] == results[1], step
            assert state(folder) == state(other), step
            assert [*folder.ids(), folder.count()] == [*other.ids(), other.count()]
            where, query, k = condition(draw), text(draw), draw.randint(1, 30)
            assert folder.count(where=where) == other.count(where=where), (step, where)
            assert folder.get(IDS) == other.get(IDS)
            for options in ({"mode": "lexical"}, {"mode": "lexical", "where": where}):
                hits, expected = (one.search(query, k, **options) for one in (other, folder))  # type: ignore[arg-type]
                assert [hit.id for hit in hits] == [hit.id for hit in expected], (step, query, options)
                assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)
            for options in ({}, {"where": where}, {"group_by": "n"}):
                hits, expected = (one.search(query, k, **options) for one in (other, folder))  # type: ignore[arg-type]
                assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)
            # ranks of texts that are equally near are fused in whichever order they come: all are, not the first few
            both = [one.search(query, 1000, mode="hybrid", where=where) for one in (folder, other)]
            assert len({(hit.id, type(hit.id)) for hit in both[0]} ^ {(hit.id, type(hit.id)) for hit in both[1]}) == 0
        assert folder.verify() == other.verify()
