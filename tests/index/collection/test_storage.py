"""Every way of keeping vectors finds, keeps and checks the same documents."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import FileCorruptError, InputError
from index import Collection
from index.ann import builder
from index.memory import vectors as memory

N, DIM = 2500, 32
STORAGES = ["float32", "float16", "int8", "binary"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are worth it from 1,000 documents on, and few vectors stay in memory."""
    monkeypatch.setattr(builder, "GRAPH_FROM", 1000)
    monkeypatch.setattr(builder, "_NEW_LEAST", 300)
    monkeypatch.setattr(memory, "_KEPT", 64)


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def vectors(count: int = N, seed: int = 0) -> Any:
    return unit(np.random.default_rng(seed).standard_normal((count, DIM)))


class Model:
    """Maps a text to a vector of its own."""

    def __init__(self, dim: int = DIM, fingerprint: str = "m") -> None:
        self.dim, self.fingerprint = dim, fingerprint

    def encode_document(self, texts: Any) -> Any:
        return np.stack([np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dim) for text in texts])

    encode_query = encode_document


def fill(folder: Path, storage: Any, count: int = N) -> None:
    with Collection.create(folder, Model(), storage=storage) as collection:
        metadata = [{"n": number % 10} for number in range(count)]
        collection.upsert(list(range(count)), [f"text {n}" for n in range(count)], metadata, vectors=vectors(count))


def check(collection: Collection, truth: dict[int, Any], *, where: bool = False, least: float = 0.93) -> None:
    """The nearest are found with their cosines, by a search with a filter too."""
    names = [name for name in truth if not where or name % 10 == 3]
    matrix, hits_of_all = np.stack([truth[name] for name in names]), 0.0
    for query in vectors(40, seed=9):
        cosines = matrix @ query
        hits = collection.search(query, k=10, where={"n": 3} if where else None)
        assert len({hit.id for hit in hits}) == min(10, len(names))
        for hit in hits:
            assert hit.score == pytest.approx(float(truth[int(hit.id)] @ query), abs=1e-3)
        hits_of_all += sum(hit.score >= np.sort(cosines)[-10] - 1e-3 for hit in hits) / 10
    assert hits_of_all / 40 >= least


@pytest.mark.parametrize("storage", STORAGES)
def test_it_finds_the_nearest_through_writes_and_reopening(folder: Path, storage: Any):
    fill(folder, storage)
    truth = dict(enumerate(vectors()))
    with Collection.open(folder, None) as collection, Collection.open(folder, None) as other:
        check(collection, truth)
        collection.compact()
        check(collection, truth)
        check(collection, truth, where=True, least=1.0)
        for step in range(6):
            ids = list(range(step * 90, step * 90 + 150))
            fresh = vectors(150, seed=50 + step)
            collection.upsert(ids, ["new"] * 150, [{"n": name % 10} for name in ids], vectors=fresh)
            truth |= dict(zip(ids, fresh, strict=True))
            gone = list(range(1000 + step * 100, 1080 + step * 100))
            collection.delete(gone)
            truth = {name: vector for name, vector in truth.items() if name not in gone}
            check(collection, truth)
            check(other, truth, where=True, least=1.0)
        assert collection.verify() == len(truth)
    with Collection.open(folder, None) as again:
        check(again, truth)
        again.compact()
        check(again, truth)
    with Collection.open(folder, None) as again:
        again.search(vectors(1)[0])
        assert again.stats().why == "it was on disk"
        check(again, truth)
        check(again, truth, where=True, least=1.0)


@pytest.mark.parametrize("storage", STORAGES)
def test_all_pages_are_one_ranking_and_a_large_k_is_answered_whole(folder: Path, storage: Any):
    fill(folder, storage, 1500)
    with Collection.open(folder, None) as collection:
        collection.compact()
        query = vectors(1, seed=3)[0]
        whole = [hit.id for hit in collection.search(query, k=1500)]
        assert sorted(whole) == list(range(1500))
        assert [hit.id for hit in collection.search(query, k=700, offset=800)] == whole[800:]
        filtered = collection.search(query, k=150, where={"n": 3})
        pages = [collection.search(query, k=30, offset=start, where={"n": 3}) for start in range(0, 150, 30)]
        assert [hit for page in pages for hit in page] == filtered


@pytest.mark.parametrize("storage", STORAGES)
def test_a_collection_can_be_small_and_empty(folder: Path, storage: Any):
    with Collection.create(folder, Model(), storage=storage) as collection:
        assert collection.search(vectors(1)[0]) == []
        collection.upsert([1, 2], ["a", "b"], vectors=vectors(2))
        assert [hit.id for hit in collection.search(vectors(2)[1])] == [2, 1]
        assert [hit.id for hit in collection.search(vectors(2)[1], diversity=0.5)] == [2, 1]
        assert [hit.id for hit in collection.search_like(1)] == [2]
        collection.delete([1, 2])
        assert collection.search(vectors(1)[0]) == []


@pytest.mark.parametrize("storage", STORAGES)
def test_another_model_takes_over_and_the_storage_stays(folder: Path, storage: Any):
    fill(folder, storage, 1200)
    with Collection.open(folder, None) as collection:
        collection.compact()
        collection.reembed(Model(48, "other"))
        assert collection.about.storage == storage
        assert collection.verify() == 1200
        wanted = collection.search("text 77", k=1)[0]
        assert wanted.id == 77
        assert wanted.score == pytest.approx(1, abs=1e-3)
    with Collection.open(folder, Model(48, "other")) as again:
        again.compact()
        assert again.search("text 78", k=1)[0].id == 78


@pytest.mark.parametrize("storage", STORAGES)
def test_a_copy_keeps_the_storage_and_a_damaged_vector_is_named(folder: Path, storage: Any, tmp_path: Path):
    fill(folder, storage, 1200)
    with Collection.open(folder, None) as collection:
        collection.backup(tmp_path / "copy")
    with Collection.open(tmp_path / "copy", None) as copy:
        assert copy.about.storage == storage
        check(copy, dict(enumerate(vectors(1200))))
    with sqlite3.connect(tmp_path / "copy" / "collection.db") as database:
        (blob,) = database.execute("SELECT vector FROM vectors WHERE row = 78").fetchone()
        assert len(blob) == DIM * (4 if storage == "float32" else 2)
        database.execute("UPDATE vectors SET vector = ? WHERE row = 78", (bytes([blob[0] ^ 1]) + blob[1:],))
    database.close()
    with pytest.raises(FileCorruptError, match="vector in row 78"), Collection.open(tmp_path / "copy", None) as copy:
        copy.verify()


def test_what_int8_reads_from_the_database_is_checked_as_it_is_read(folder: Path):
    fill(folder, "int8", 1500)
    with Collection.open(folder, None) as collection:
        collection.compact()
    with sqlite3.connect(folder / "collection.db") as database:
        database.execute("UPDATE vectors SET checksum = checksum + 1 WHERE row = 78")
    database.close()
    with Collection.open(folder, None) as collection:
        with pytest.raises(FileCorruptError, match="vector in row 78"):
            collection.search(vectors()[77], k=1)
        assert collection.search(vectors()[500], k=1)[0].id == 500


def test_int8_holds_no_vectors(folder: Path):
    fill(folder, "int8", 1500)
    with Collection.open(folder, None) as collection:
        collection.compact()
        assert not list(folder.glob("vectors-*"))
    with Collection.open(folder, None) as collection, collection.opened.read_view() as view:
        assert not view.snapshot.vectors.held
        recent = view.snapshot.vectors.recent
        assert recent.nbytes == 0


def test_a_graph_grows_with_later_rows_and_is_made_anew_where_many_have_gone(folder: Path):
    fill(folder, "float32", 1500)
    with Collection.open(folder, None) as collection:
        collection.compact()
        first = collection.opened.state.now.builder.graph
        assert first is not None
        fresh = vectors(600, seed=4)
        collection.upsert(list(range(5000, 5600)), ["t"] * 600, vectors=fresh)
        collection.compact()
        second = collection.opened.state.now.builder.graph
        assert second is not None
        assert len(second) == 2100
        np.testing.assert_array_equal(second.codes.codes[:1500], first.codes.codes)
        collection.delete(list(range(900)))
        collection.compact()
        third = collection.opened.state.now.builder.graph
        assert third is not None
        assert len(third) == 1200
        check(
            collection,
            {n: v for n, v in enumerate(vectors(1500)) if n >= 900} | dict(zip(range(5000, 5600), fresh, strict=True)),
        )


def test_wrong_storages_are_rejected(folder: Path):
    with pytest.raises(InputError, match="storage is 'int4', expected one of float32, float16, int8"):
        Collection.create(folder, Model(), storage="int4")  # type: ignore[arg-type]
    assert not folder.exists()
    Collection.create(folder, Model(), storage="int8").close()
    with pytest.raises(InputError, match="ivf"):
        Collection.open(folder, None, index="ivf")
    with sqlite3.connect(folder / "collection.db") as database:
        database.execute("UPDATE meta SET value = 'int2' WHERE key = 'storage'")
    database.close()
    with pytest.raises(FileCorruptError, match="keeps its vectors as 'int2'"):
        Collection.open(folder, None)


@pytest.mark.parametrize("storage", STORAGES)
def test_rows_that_no_index_has_yet_are_found_by_their_codes(
    folder: Path, storage: Any, monkeypatch: pytest.MonkeyPatch
):
    """While the large index is made, for minutes where there are millions, thousands of rows may be in none."""
    monkeypatch.setattr(builder.Builder, "follow", lambda *_: None)
    monkeypatch.setattr(builder.Builder, "look_after", lambda *_: None)
    fill(folder, storage, 1500)
    monkeypatch.undo()
    monkeypatch.setattr(builder, "GRAPH_FROM", 1000)
    with Collection.open(folder, None) as collection:
        collection.compact()
        monkeypatch.setattr(builder.Builder, "follow", lambda *_: None)
        monkeypatch.setattr(builder.Builder, "look_after", lambda *_: None)
        fresh = vectors(2000, seed=8)
        collection.upsert(list(range(2000, 4000)), ["t"] * 2000, [{"n": n % 10} for n in range(2000)], vectors=fresh)
        truth = dict(enumerate(vectors(1500))) | dict(zip(range(2000, 4000), fresh, strict=True))
        segments = collection.opened.state.now.builder.segments
        assert segments is not None
        assert segments.size == 1500
        check(collection, truth)
        check(collection, truth, where=True, least=1.0)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_file_that_another_process_replaced_is_searched_on_and_made_again(folder: Path, storage: Any):
    fill(folder, storage, 1500)
    truth = dict(enumerate(vectors(1500)))
    with Collection.open(folder, None) as collection:
        collection.compact()
        for file in folder.glob("*.bin"):
            file.unlink()
        check(collection, truth)
        fresh = vectors(600, seed=4)
        collection.upsert(list(range(5000, 5600)), ["t"] * 600, vectors=fresh)
        collection.compact()
        check(collection, truth | dict(zip(range(5000, 5600), fresh, strict=True)))
    with Collection.open(folder, None) as again:
        again.search(fresh[0])
        assert again.stats().why == "it was on disk"


def outweighed(count: int, seed: int = 0) -> Any:
    """Vectors of which one channel outweighs all others, so that codes say little of these."""
    draw = np.random.default_rng(seed)
    return unit(np.concatenate([np.full((count, 1), 60.0), draw.standard_normal((count, DIM - 1))], axis=1))


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_graph_is_over_vectors_where_codes_are_too_coarse(folder: Path, storage: Any):
    given = outweighed(4000)
    with Collection.create(folder, Model(), storage=storage) as collection:
        collection.upsert(list(range(3000)), ["t"] * 3000, vectors=given[:3000])
        collection.compact()
        assert collection.stats().recall >= 0.9
        graph = collection.opened.state.now.builder.graph
        assert graph is not None
        assert graph.coding is None
        collection.upsert(list(range(3000, 4000)), ["t"] * 1000, vectors=given[3000:])
        check(collection, dict(enumerate(given)), least=0.0)  # the cosines are right
    with Collection.open(folder, None) as again:
        again.search(given[0])
        assert again.stats().kind == "hnsw"
        graph = again.opened.state.now.builder.graph
        assert graph is not None
        assert graph.coding is None
        again.compact()  # it takes the later rows in
        shares = []
        for query in outweighed(40, 5):
            hits = again.search(query, k=10)
            shares.append(sum(hit.score >= np.sort(given @ query)[-10] - 2e-6 for hit in hits) / 10)
        assert storage == "float16" or np.mean(shares) >= 0.9
        assert again.verify() == 4000
