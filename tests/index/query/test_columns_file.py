"""Columns of filters that are kept beside a collection with a graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from index import Collection
from index.ann import builder
from index.query import read_view
from index.query.columns_file import NAME

VALUES: list[Any] = [1, 2.5, "1", "x", None, True, [1, 2], {"deep": 1}, 2**60, 10**30, -0.0]
FILTERS: list[dict[str, Any]] = [
    {"v": 1},
    {"v": "1"},
    {"v": {"$gt": 1}},
    {"v": {"$lte": 2**60}},
    {"v": {"$contains": 2}},
    {"v": None},
    {"v": {"$exists": False}},
    {"n.part": {"$lt": 40}},
    {"v": {"$eq": {"deep": 1}}},
]
N = 400


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "GRAPH_FROM", 100)
    monkeypatch.setattr(read_view, "_PREPARED_FROM", 10**9)  # what is read is read by the filters themselves


def described(number: int) -> dict[str, Any]:
    value = VALUES[number % (len(VALUES) + 1)] if number % (len(VALUES) + 1) < len(VALUES) else ...
    return {"n": {"part": number % 97}} | ({} if value is ... else {"v": value})


def fill(collection: Collection, start: int, end: int) -> None:
    ids = list(range(start, end))
    collection.upsert(ids, [f"text {n}" for n in ids], [described(n) for n in ids])


def matches(collection: Collection) -> list[list[Any]]:
    return [sorted(hit.id for hit in collection.search("text", k=2000, where=where)) for where in FILTERS]


@pytest.fixture
def kept(folder: Path, encoder: Any) -> list[list[Any]]:
    """A collection whose columns are on disk, and what its filters match."""
    with Collection.create(folder, encoder) as collection:
        fill(collection, 0, N)
        collection.delete(list(range(0, 50, 2)))
        collection.compact()
        expected = matches(collection)
    assert (folder / NAME).is_file()
    return expected


def test_what_is_opened_again_reads_no_metadata(folder: Path, encoder: Any, kept: list[Any], read: list[int]):
    with Collection.open(folder, encoder) as collection:
        assert matches(collection) == kept
    assert sum(read) == 0


def test_later_writes_alone_are_read(folder: Path, encoder: Any, kept: list[Any], read: list[int]):
    with Collection.open(folder, encoder) as collection:
        fill(collection, N, N + 30)
        collection.set_metadata([1], [{"v": "x"}])
        collection.delete([3])
        some = matches(collection)
        assert sum(read) <= 2 * 40  # two fields
    with Collection.open(folder, encoder, index="flat") as collection:
        assert matches(collection) == some


def test_columns_are_kept_again_with_the_next_graph(folder: Path, encoder: Any, kept: list[Any], read: list[int]):
    with Collection.open(folder, encoder) as collection:
        matches(collection)
        fill(collection, N, 8 * N)
        collection.compact()
        expected = matches(collection)
    read.clear()
    with Collection.open(folder, encoder) as collection:
        assert matches(collection) == expected
    assert sum(read) == 0
    assert len([*folder.glob("columns-*.bin")]) == 4  # those of before are gone


@pytest.mark.parametrize("damage", ["manifest", "cut", "flipped", "version", "names", "missing"])
def test_what_is_damaged_is_made_again(folder: Path, encoder: Any, kept: list[Any], read: list[int], damage: str):
    manifest, files = folder / NAME, sorted(folder.glob("columns-*.bin"))
    said = json.loads(manifest.read_text())
    if damage == "manifest":
        manifest.write_bytes(b"\xff{")
    elif damage == "version":
        manifest.write_text(json.dumps(said | {"format_version": 99}))
    elif damage == "names":
        said["fields"][0]["codes"]["name"] = "../../etc/passwd"
        manifest.write_text(json.dumps(said))
    for file in files:
        if damage == "cut":
            file.write_bytes(file.read_bytes()[:-4])
        elif damage == "flipped":
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        elif damage == "missing":
            file.unlink()
    with Collection.open(folder, encoder) as collection:
        assert matches(collection) == kept
    assert sum(read) > 0


def test_columns_of_another_history_are_not_used(folder: Path, encoder: Any, kept: list[Any], tmp_path: Path):
    """A collection that was written anew, with as many rows, beside the files of the one before."""
    other = tmp_path / "other"
    with Collection.create(other, encoder) as collection:
        ids = list(range(N))
        collection.upsert(ids, ["text"] * N, [{"v": "other"} for _ in ids])
        collection.delete(list(range(0, 50, 2)))
    for file in [folder / NAME, *folder.glob("columns-*.bin")]:
        shutil.copy(file, other)
    with Collection.open(other, encoder) as collection:
        assert len(collection.search("text", k=2000, where={"v": "other"})) == N - 25
        assert collection.search("text", k=2000, where={"v": 1}) == []


def test_a_folder_that_is_read_only_serves_all_the_same(folder: Path, encoder: Any, kept: list[Any]):
    for path in (folder / NAME, *folder.glob("columns-*.bin")):
        path.unlink()
    folder.chmod(0o555)
    try:
        with Collection.open(folder, encoder) as collection:
            assert matches(collection) == kept
    finally:
        folder.chmod(0o755)
