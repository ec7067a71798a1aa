"""The graph: as good as promised, right through writes, built beside searches, and never trusted unseen."""

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import InputError, SaveError
from index import Collection
from index.ann import ann_index as approximate
from index.ann import builder
from index.ann import cache as graph_files
from index.ann.hnsw import Hnsw
from index.memory import derived_files
from index.storage import writer
from index.storage.reader import Reader

N, DIM = 3000, 16


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are worth it from 1,000 documents on, here."""
    monkeypatch.setattr(builder, "GRAPH_FROM", 1000)
    monkeypatch.setattr(builder, "_NEW_LEAST", 200)


def vectors(n: int = N, seed: int = 0) -> Any:
    found = np.random.default_rng(seed).standard_normal((n, DIM))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def fill(folder: Path, encoder: Any, n: int = N) -> None:
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(n)), ["t"] * n, [{"n": place % 10} for place in range(n)], vectors=vectors(n))


def recall(collection: Collection, truth: dict[int, Any], k: int = 10) -> float:
    names = list(truth)
    matrix, shares = np.stack([truth[name] for name in names]), []
    for query in vectors(50, seed=9):
        best = {names[place] for place in np.argsort(-(matrix @ query))[:k]}
        hits = collection.search(query, k=k)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert len({hit.id for hit in hits}) == min(k, len(names))
        shares.append(len(best & {hit.id for hit in hits}) / len(best))
    return float(np.mean(shares))


def test_a_graph_is_built_in_the_background_saved_and_found_again(folder: Path, encoder: Any):
    fill(folder, encoder)
    truth = dict(enumerate(vectors()))
    with Collection.open(folder, encoder) as collection:
        assert recall(collection, truth) == 1.0  # exactly, or through a graph that was just built
        collection.compact()
        stats = collection.stats()
        assert (stats.kind, stats.documents, stats.why) == ("hnsw", N, f"it was built over {N} documents")
        assert stats.recall >= 0.95
        assert recall(collection, truth) >= 0.93
    names = {file.name for file in folder.iterdir()}
    with Collection.open(folder, encoder) as again:
        again.search(vectors(1)[0])
        assert again.stats().why == "it was on disk"
        assert recall(again, truth) >= 0.93
    assert {file.name for file in folder.iterdir()} == names


def test_opening_reads_vectors_from_the_file_beside_and_only_later_ones_from_the_database(
    folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    fill(folder, encoder)
    with Collection.open(folder, encoder) as collection:
        collection.compact()
        collection.upsert([5, N], ["t", "t"], vectors=vectors(2, seed=3))
        collection.delete([7])
    asked: list[Any] = []
    read = Reader.vectors

    def spy(self: Any, rows: Any = None) -> Any:
        asked.append(rows if rows is None else len(rows))
        return read(self, rows)

    monkeypatch.setattr(Reader, "vectors", spy)
    truth = dict(enumerate(vectors())) | dict(zip([5, N], vectors(2, seed=3), strict=True))
    del truth[7]
    with Collection.open(folder, encoder) as again:
        assert asked == [2]
        assert again.stats().why == "it was on disk"
        assert recall(again, truth) >= 0.93
        assert again.verify() == N


@pytest.mark.parametrize("with_files", [False, True])
def test_the_log_stays_short_and_who_has_not_followed_it_loads_anew(
    folder: Path, encoder: Any, with_files: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "_LOGGED", 500)
    fill(folder, encoder)
    truth = dict(enumerate(vectors()))
    entries = 0
    with Collection.open(folder, encoder) as late, Collection.open(folder, encoder) as collection:
        if with_files:
            collection.compact()
        for step in range(90):
            ids, fresh = list(range(step * 20, step * 20 + 100)), vectors(100, seed=100 + step)
            collection.upsert(ids, ["new"] * 100, vectors=fresh)
            truth |= dict(zip(ids, fresh, strict=True))
            with sqlite3.connect(folder / "collection.db") as other:
                (entries,) = other.execute("SELECT count(*) FROM log").fetchone()
                assert other.execute("SELECT value FROM meta WHERE key = 'logged'").fetchone() == (entries,)
                assert other.execute("SELECT count(*) FROM writes").fetchone()[0] <= 92
            other.close()
            assert entries < 2 * (2 * N + 500) + 300
        assert recall(late, truth) >= 0.93
        assert recall(collection, truth) >= 0.93
    assert entries < 90 * 200
    with Collection.open(folder, encoder) as again:
        assert recall(again, truth) >= 0.93
        assert again.verify() == N


def test_the_wanted_recall_is_reached_by_more_effort(folder: Path, encoder: Any):
    fill(folder, encoder)
    efforts = {}
    for wanted in (0.5, 0.999):
        with Collection.open(folder, encoder, recall=wanted) as collection:
            for file in folder.glob("graph-*"):
                file.unlink()
            collection.compact()
            efforts[wanted] = collection.stats().effort
            assert collection.stats().recall >= wanted
    assert efforts[0.5] <= efforts[0.999]


def test_writes_are_seen_at_once_beside_a_graph_and_what_is_gone_is_gone(folder: Path, encoder: Any):
    fill(folder, encoder)
    truth = dict(enumerate(vectors()))
    with Collection.open(folder, encoder) as collection, Collection.open(folder, encoder) as other:
        collection.compact()
        for step in range(12):
            fresh = vectors(60, seed=100 + step)
            ids = list(range(step * 37, step * 37 + 60))
            collection.upsert(ids, ["new"] * 60, vectors=fresh)
            truth |= dict(zip(ids, fresh, strict=True))
            assert collection.search(fresh[0], k=1)[0].id == ids[0]
            gone = list(range(1500 + step * 90, 1590 + step * 90))
            collection.delete(gone)
            truth = {name: value for name, value in truth.items() if name not in gone}
            assert recall(collection, truth) >= 0.93
            assert recall(other, truth) >= 0.93
        near = vectors()[1700]
        assert all(hit.id in truth for hit in collection.search(near, k=300))
        collection.compact()
        assert collection.stats().documents == len(truth)
        assert recall(collection, truth) >= 0.93


def test_filters_are_exact_beside_a_graph_and_so_is_a_flat_index(folder: Path, encoder: Any):
    fill(folder, encoder)
    with Collection.open(folder, encoder) as collection, Collection.open(folder, encoder, index="flat") as flat:
        collection.compact()
        for query in vectors(20, seed=5):
            best = [int(name) for name in np.argsort(-(vectors() @ query)) if name % 10 == 3][:10]
            assert [hit.id for hit in collection.search(query, where={"n": 3})] == best
        assert flat.stats().kind == "flat"
        assert recall(flat, dict(enumerate(vectors()))) == 1.0


def test_a_large_k_is_answered_whole(folder: Path, encoder: Any):
    fill(folder, encoder)
    with Collection.open(folder, encoder) as collection:
        collection.compact()
        for k in (1000, 1600, N, 2 * N):
            assert len({hit.id for hit in collection.search(vectors(1)[0], k=k)}) == min(k, N)


def test_lists_are_another_kind_and_each_kind_leaves_the_other_alone(folder: Path, encoder: Any):
    fill(folder, encoder)
    truth = dict(enumerate(vectors()))
    for kind in ("ivf", "hnsw", "ivf"):
        with Collection.open(folder, encoder, index=kind) as collection:
            collection.compact()
            stats = collection.stats()
            assert (stats.kind, stats.why) == (kind, f"it was built over {N} documents")
            assert stats.recall >= 0.95
            assert recall(collection, truth) >= 0.9
            collection.upsert([3, N], ["t", "t"], vectors=vectors(2, seed=4))
            assert collection.search(vectors(2, seed=4)[1], 1)[0].id == N
            collection.upsert([3], ["t"], vectors=vectors()[3:4])
            collection.delete([N])
        with Collection.open(folder, encoder, index=kind) as again:
            again.search(vectors(1)[0])
            assert (again.stats().kind, again.stats().why) == (kind, "it was on disk")
            assert recall(again, truth) >= 0.9


def test_small_and_empty_collections_are_searched_exactly(folder: Path, encoder: Any):
    fill(folder, encoder, n=0)
    with Collection.open(folder, encoder) as collection:
        collection.compact()
        assert collection.search("x") == []
        collection.upsert([1], ["x"])
        assert collection.stats().kind == "flat"
        assert "searched exactly" in collection.stats().why
    with Collection.open(folder, encoder, index="hnsw") as collection:
        collection.compact()
        assert collection.stats().kind == "hnsw"
        assert [hit.id for hit in collection.search("x")] == [1]


def damage(folder: Path, kind: str, how: str) -> None:
    (file,) = folder.glob(f"{kind}-*.bin")
    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_text())
    if how == "lost":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "flipped":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif how == "manifest lost":
        manifest.unlink()
    elif how == "manifest garbage":
        manifest.write_bytes(b"\xff{")
    else:
        entry = content[kind]
        changes = {"another model": {"fingerprint": "x"}, "outside": {kind: entry | {"name": "../x"}},
                   "no rows": {"count": 0}, "version": {"format_version": 9}, "too many rows": {"count": 10**9},
                   "another width": {"dim": 8}, "another write": {"sequence": content["sequence"] + 1},
                   "another token": {"token": "00"}, "no such size": {kind: entry | {"size": 2**60}},
                   "negative": {kind: entry | {"size": -1}}}  # fmt: skip
        manifest.write_text(json.dumps(content | changes[how]))


@pytest.mark.parametrize("kind", ["graph", "vectors", "rows"])
@pytest.mark.parametrize(
    "how",
    ["lost", "truncated", "empty", "flipped", "manifest lost", "manifest garbage", "another model", "outside",
     "no rows", "version", "too many rows", "another width", "another write", "another token", "no such size",
     "negative"],
)  # fmt: skip
def test_a_damaged_file_is_never_believed_and_made_again(
    folder: Path, encoder: Any, kind: str, how: str, monkeypatch: pytest.MonkeyPatch
):
    fill(folder, encoder)
    with Collection.open(folder, encoder) as collection:
        collection.compact()
    (before,) = folder.glob("graph-*")
    damage(folder, kind, how)
    read, seen = Hnsw.read, list[Path]()
    with monkeypatch.context() as patch:
        patch.setattr(Hnsw, "read", lambda self, path, **options: seen.append(path) or read(self, path, **options))
        with Collection.open(folder, encoder) as collection:
            collection.compact()
            assert "it was built over" in collection.stats().why
            assert recall(collection, dict(enumerate(vectors()))) >= 0.93
            assert collection.verify() == N
    assert before not in seen  # FAISS trusts what it reads
    with Collection.open(folder, encoder) as collection:
        collection.search(vectors(1)[0])
        assert collection.stats().why == "it was on disk"
    assert len(list(folder.glob("graph-*"))) == len(list(folder.glob("vectors-*"))) == 1


def test_a_graph_beside_a_database_that_was_put_back_is_not_believed(folder: Path, encoder: Any, tmp_path: Path):
    """Rows that the earlier database had not given yet are given again, to other documents."""
    fill(folder, encoder)
    with Collection.open(folder, encoder) as collection:
        collection.backup(tmp_path / "earlier")
        collection.upsert(list(range(N, N + 50)), ["t"] * 50, vectors=vectors(50, seed=1))
        collection.compact()
    (folder / "collection.db").write_bytes((tmp_path / "earlier" / "collection.db").read_bytes())
    for leftover in ("-wal", "-shm"):
        (folder / f"collection.db{leftover}").unlink(missing_ok=True)
    truth = dict(enumerate(vectors()))
    with Collection.open(folder, encoder) as collection:
        fresh = vectors(50, seed=2)
        collection.upsert(list(range(N, N + 50)), ["t"] * 50, vectors=fresh)
        truth |= dict(zip(range(N, N + 50), fresh, strict=True))
        assert recall(collection, truth) >= 0.93
        collection.compact()
        assert recall(collection, truth) >= 0.93
        assert "it was built over" in collection.stats().why


def test_searches_go_on_while_a_graph_is_built_and_closing_stops_it(
    folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    fill(folder, encoder)
    begun, go_on = threading.Event(), threading.Event()
    build = approximate.AnnIndex.build.__func__

    def slow(cls: Any, kind: Any, snapshot: Any, stop: threading.Event) -> Any:
        begun.set()
        go_on.wait(20)
        return build(cls, kind, snapshot, stop)

    monkeypatch.setattr(approximate.AnnIndex, "build", classmethod(slow))
    collection = Collection.open(folder, encoder)
    collection.search(vectors(1)[0])
    assert begun.wait(10)
    assert recall(collection, dict(enumerate(vectors()))) == 1.0
    collection.upsert([5], ["new"], vectors=vectors(1, seed=50))
    assert collection.search(vectors(1, seed=50)[0], k=1)[0].text == "new"
    closing = threading.Thread(target=collection.close)
    closing.start()
    while not collection.opened.state.now.builder.stopped:
        pass
    go_on.set()
    closing.join(20)
    assert not closing.is_alive()
    assert not list(folder.glob("graph-*"))


def test_a_graph_that_cannot_be_saved_serves_all_the_same(folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise SaveError("no space left")

    fill(folder, encoder)
    monkeypatch.setattr(derived_files, "replacing", full)
    with Collection.open(folder, encoder) as collection:
        collection.compact()
        assert collection.stats().kind == "hnsw"
        assert "could not be saved (no space left)" in collection.stats().why


@pytest.mark.parametrize("options", [{"index": "lsh"}, {"recall": 0}, {"recall": 1.5}, {"recall": "high"}])
def test_wrong_options_are_refused(folder: Path, encoder: Any, options: Any):
    fill(folder, encoder, n=1)
    with pytest.raises(InputError, match=r"expected (one of auto, flat, hnsw, ivf|a number)"):
        Collection.open(folder, encoder, **options)


def test_what_is_on_disk_is_loaded_beside_the_first_searches(
    folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    """A search does not wait for the graph, stats do; a search through it then finds the same."""
    fill(folder, encoder, 300)
    query = vectors(300)[7]
    with Collection.open(folder, None, index="hnsw", recall=1.0) as collection:
        collection.compact()
    allowed = threading.Event()
    read = graph_files.read_graph
    monkeypatch.setattr(graph_files, "read_graph", lambda *what: allowed.wait(30) and read(*what))
    with Collection.open(folder, None, index="hnsw") as collection:
        first = [hit.id for hit in collection.search(query, k=5)]
        assert collection.opened.state.now.builder.graph is None
        allowed.set()
        assert collection.stats().kind == "hnsw"
        assert [hit.id for hit in collection.search(query, k=5)] == first


def test_a_query_is_one_vector_however_it_is_held(collection: Collection):
    collection.upsert(["a", "b"], ["x", "y"], vectors=np.eye(16)[:2])
    vector = np.eye(16)[1]
    for query in (vector, vector.tolist(), tuple(vector), vector.astype(np.float32), vector.astype(object).tolist()):
        assert collection.search(query, k=1)[0].id == "b"
    for wrong in (vector[None], [vector], np.array(1.0), 3):
        with pytest.raises(InputError, match="neither a text nor one vector"):
            collection.search(wrong)
