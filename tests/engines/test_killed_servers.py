"""Servers that are killed under load, and that stay away."""

from __future__ import annotations

import time
from typing import Any

import pytest

from encoder_tools.errors import UnavailableError
from index import Collection
from tests.engines.load import under_load
from tests.engines.test_contract import fill


def test_writes_and_searches_go_on_when_the_server_is_killed_and_comes_back(killable: Any, encoder: Any):
    address = killable.address("c")
    with Collection.create(address, encoder, busy_timeout=60) as collection:
        fill(collection, 200)
        acknowledged: list[int] = []

        def write(number: int) -> None:
            collection.upsert([f"w{number}"], [f"written {number}"], [{"w": number}])
            acknowledged.append(number)

        def search(_: int) -> None:
            assert len(collection.search("text 3", 5)) == 5

        with under_load(write, search) as errors:
            for _ in range(3):
                time.sleep(0.3)
                killable.kill()
                killable.start()
            time.sleep(0.5)
        assert errors == []
        assert acknowledged
        written = sorted(document.metadata["w"] for document in collection.scan(where={"w": {"$exists": True}}))
        assert written[: len(acknowledged)] == acknowledged  # nothing is lost, and nothing is there twice
        assert len(written) <= len(acknowledged) + 1
        assert collection.verify() == 200 + len(written)


def test_a_server_that_stays_away_is_one_clear_error(killable: Any, encoder: Any):
    address = killable.address("c")
    with Collection.create(address, encoder, busy_timeout=1) as collection:
        collection.upsert([1], ["text"])
        killable.kill()
        with pytest.raises(UnavailableError, match="collection 'c'"):
            collection.search("text")
        with pytest.raises(UnavailableError):
            collection.upsert([2], ["text"])
        killable.start()
        assert collection.search("text")[0].id == 1
