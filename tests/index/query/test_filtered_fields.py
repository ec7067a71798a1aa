"""Columns of fields that filters asked for are there before they are asked for again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Collection
from index.query import filtered_fields, read_view
from index.query.filtered_fields import MOST, NAME, read_fields, remember_fields


def fill(collection: Collection, start: int, end: int) -> None:
    ids = list(range(start, end))
    collection.upsert(ids, [f"text {n}" for n in ids], [{"n": n, "deep": {"even": n % 2 == 0}} for n in ids])


def ids(collection: Collection, where: dict[str, Any], k: int = 1000) -> list[Any]:
    return sorted(hit.id for hit in collection.search("text", k=k, where=where))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_search_reads_nothing_that_a_write_has_read(folder: Path, encoder: Any, read: list[int]):
    with Collection.create(folder, encoder) as collection:
        fill(collection, 0, 50)
        assert not read  # no filter has asked yet
        assert ids(collection, {"n": {"$lt": 5}}) == [0, 1, 2, 3, 4]
        assert read == [50]
        for end in (51, 251, 500):
            fill(collection, 0, end)  # what was there before is replaced
            read.clear()
            assert ids(collection, {"n": {"$gte": 0}}) == list(range(end))
            assert not read
        collection.delete(list(range(0, 500, 2)))
        read.clear()
        assert ids(collection, {"n": {"$lt": 400}}) == list(range(1, 400, 2))
        assert len(read) <= 1  # rows that move when many have gone are read again


def test_what_is_opened_again_makes_the_same_columns_ready(
    folder: Path, encoder: Any, read: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(read_view, "_PREPARED_FROM", 10)
    with Collection.create(folder, encoder) as collection:
        fill(collection, 0, 60)
        assert len(ids(collection, {"deep.even": True})) == 30
    assert read_fields(folder) == [("deep", "even")]
    read.clear()
    with Collection.open(folder, encoder) as collection:
        collection.search("text", k=1)  # any use of it
        until(lambda: bool(read))
        until(lambda: len(collection.opened.state.now.columns._columns.get(("deep", "even"), [])) == 60)
        read.clear()
        assert len(ids(collection, {"deep.even": True})) == 30
        assert not read


def test_fields_are_remembered_once_and_not_without_end(tmp_path: Path):
    assert read_fields(tmp_path) == []
    remember_fields(tmp_path, [("a",), ("b", "c")])
    before = (tmp_path / NAME).stat().st_mtime_ns
    remember_fields(tmp_path, [("b", "c")])
    assert (tmp_path / NAME).stat().st_mtime_ns == before
    remember_fields(tmp_path, [(f"field {number}",) for number in range(100)])
    assert len(read_fields(tmp_path)) == MOST
    assert read_fields(tmp_path)[:2] == [("a",), ("b", "c")]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b'{"format_version": 1}', b'{"format_version": 1, "fields": [[1]]}', b"null"],
)
def test_a_damaged_file_is_none_and_is_replaced(tmp_path: Path, content: bytes):
    (tmp_path / NAME).write_bytes(content)
    assert read_fields(tmp_path) == []
    remember_fields(tmp_path, [("a",)])
    assert read_fields(tmp_path) == [("a",)]


def test_a_later_version_is_not_read(tmp_path: Path):
    (tmp_path / NAME).write_text(json.dumps({"format_version": 2, "fields": [["a"]]}), encoding="utf-8")
    assert read_fields(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from encoder_tools.errors import SaveError

    def full(*_: Any) -> None:
        raise SaveError("the disk is full")

    monkeypatch.setattr(filtered_fields, "write_bytes", full)
    remember_fields(tmp_path, [("a",)])
    assert read_fields(tmp_path) == []


def test_filters_are_right_after_any_writes(folder: Path, encoder: Any):
    """Against a model of the truth: values that change, come, go and are of several kinds."""
    draw = np.random.default_rng(0)
    kinds: list[Any] = [1, 1.0, 2, "1", None, True, [1, 2], {"x": 1}, 3.5, 2**60]
    truth: dict[int, Any] = {}
    with Collection.create(folder, encoder) as collection:
        for _ in range(25):
            some = draw.choice(200, size=int(draw.integers(1, 40)), replace=False).tolist()
            values = [kinds[int(draw.integers(len(kinds)))] for _ in some]
            if draw.random() < 0.3 and truth:
                gone = [identifier for identifier in some if identifier in truth]
                collection.delete(gone)
                truth = {name: value for name, value in truth.items() if name not in gone}
            else:
                collection.upsert(some, ["t"] * len(some), [{"v": value} for value in values])
                truth |= dict(zip(some, values, strict=True))
            for where, right in (
                ({"v": 1}, lambda value: value == 1 and not isinstance(value, bool)),
                ({"v": {"$gt": 1}}, lambda value: isinstance(value, int | float) and value > 1),
                ({"v": "1"}, lambda value: value == "1"),
                ({"v": {"$contains": 2}}, lambda value: isinstance(value, list) and 2 in value),
            ):
                hits = sorted(hit.id for hit in collection.search("t", k=300, where=where))
                assert hits == sorted(name for name, value in truth.items() if right(value))
