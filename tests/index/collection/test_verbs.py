"""What a collection does beside upsert and search: delete, scan, verify, backup, drop; older formats; damage."""

import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, SaveError
from index import Collection, Document
from index.memory.snapshot import best_of


def test_deleted_documents_are_gone_and_their_rows_are_not_used_again(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as collection:
        collection.upsert(["a", "b", "c"], ["red cat", "old town", "dry land"])
        assert collection.delete(["a", "c", "nowhere"]) == 2
        assert collection.delete([]) == collection.delete(["a"]) == 0
        assert collection.get(["a", "b"]) == [None, Document("b", "old town", {})]
        assert [hit.id for hit in collection.search("red cat", k=9)] == ["b"]
        collection.delete(["b"])
        assert collection.search("red cat") == []
        collection.upsert(["a"], ["blue sea"])
        assert [(hit.id, hit.text) for hit in collection.search("red cat", k=9)] == [("a", "blue sea")]
    with sqlite3.connect(folder / "collection.db") as other:
        assert other.execute("SELECT row FROM documents").fetchall() == [(4,)]
        assert other.execute("SELECT row, added FROM log").fetchall() == [
            (1, 1), (2, 1), (3, 1), (1, 0), (3, 0), (2, 0), (4, 1),
        ]  # fmt: skip
    other.close()


@pytest.mark.parametrize("ids", ["a", [None], [1.5], ["a", "a"], None])
def test_bad_ids_are_refused(collection: Collection, ids: Any):
    with pytest.raises(InputError):
        collection.delete(ids)


def test_search_is_brute_force_through_any_writes_and_after_reopening(folder: Path, encoder: Any):
    """A random walk of writes by two openers of one folder; after each, one of them is asked."""
    randomly, truth = random.Random(3), {}
    numbers = np.random.default_rng(3)
    with Collection.create(folder, encoder) as first, Collection.open(folder, encoder) as second:
        for step in range(150):
            one, other = (first, second) if randomly.random() < 0.7 else (second, first)
            ids = randomly.sample(range(60), randomly.randint(1, 30))
            if randomly.random() < 0.4:
                assert one.delete(ids) == len(truth.keys() & set(ids))
                truth = {key: value for key, value in truth.items() if key not in ids}
            else:
                vectors = numbers.standard_normal((len(ids), 16))
                one.upsert(ids, [f"{step}"] * len(ids), vectors=vectors)
                truth |= dict(zip(ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))
            query = numbers.standard_normal(16)
            best = sorted(truth, key=lambda key: -float(truth[key] @ query))[:7]
            assert [hit.id for hit in other.search(query, k=7)] == best
            assert other.count() == len(truth)
    with Collection.open(folder, encoder) as again:
        assert [hit.id for hit in again.search(query, k=7)] == best
        assert again.verify() == len(truth)


def test_equal_scores_come_in_the_order_of_writing():
    scores = np.array([1, 3, 3, 2, 3, 0], dtype=np.float32)
    assert [best_of(scores, k).tolist() for k in (1, 2, 3, 4, 6, 9)] == [
        [1], [1, 2], [1, 2, 4], [1, 2, 4, 3], [1, 2, 4, 3, 0, 5], [1, 2, 4, 3, 0, 5],
    ]  # fmt: skip


def test_catching_up_reads_what_was_written_and_no_more(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(3000)), ["t"] * 3000, vectors=np.random.default_rng(0).standard_normal((3000, 16)))
        collection.search("t")
        collection.upsert([3000], ["new"])
        seen: list[str] = []
        with collection.opened.database.reading() as connection:
            connection.set_trace_callback(seen.append)
        collection.search("new")
        read = [statement for statement in seen if "vector" in statement]
        assert len(read) == 1
        assert "WHERE row IN (3001)" in read[0]


def test_scan_gives_all_in_order_while_others_write(collection: Collection):
    collection.upsert(list(range(2500)), [f"t{n}" for n in range(2500)], vectors=np.eye(16)[np.arange(2500) % 16])
    collection.upsert([7], ["again"])
    found = collection.scan()
    first = next(found)
    collection.upsert(["later"], ["later"])
    assert [document.id for document in (first, *found)] == [*range(7), *range(8, 2500), 7, "later"]


def test_backup_is_a_collection_of_its_own(folder: Path, encoder: Any, tmp_path: Path):
    with Collection.create(folder, encoder) as collection:
        collection.upsert(["a", "b"], ["red cat", "old town"])
        collection.backup(tmp_path / "copy")
        collection.delete(["a"])
        with pytest.raises(InputError, match="not empty"):
            collection.backup(tmp_path / "copy")
    with Collection.open(tmp_path / "copy", encoder) as copy:
        assert copy.verify() == 2
        assert copy.search("red cat", k=1)[0].id == "a"


def test_drop_removes_a_collection_and_nothing_else(folder: Path, encoder: Any, tmp_path: Path):
    Collection.create(folder, encoder).close()
    Collection.drop(folder)
    assert not folder.exists()
    with pytest.raises(FileMissingError):
        Collection.drop(tmp_path)
    with sqlite3.connect(tmp_path / "collection.db") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(FileCorruptError, match="not a collection"):
        Collection.drop(tmp_path)
    assert (tmp_path / "collection.db").is_file()


VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (row INTEGER PRIMARY KEY, id NOT NULL UNIQUE, text TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE vectors (row INTEGER PRIMARY KEY REFERENCES documents, sequence INTEGER NOT NULL, vector BLOB NOT NULL);
CREATE INDEX vectors_by_sequence ON vectors (sequence);
INSERT INTO meta VALUES ('format_version', 1), ('dim', 16), ('fingerprint', 'roles'), ('sequence', 1);
PRAGMA application_id = 1701733204;
PRAGMA journal_mode = WAL;
"""


VERSION_2 = """
DROP INDEX documents_by_source;
ALTER TABLE documents DROP COLUMN source;
DROP TABLE writes;
DELETE FROM meta WHERE key = 'logged';
UPDATE meta SET value = 2 WHERE key = 'format_version';
"""


def version_1(folder: Path, encoder: Any, *, damaged: bool = False) -> None:
    folder.mkdir()
    texts = ["red cat", "old town"]
    with sqlite3.connect(folder / "collection.db") as old:
        old.executescript(VERSION_1)
        for row, (text, vector) in enumerate(zip(texts, encoder.encode_document(texts), strict=True), start=1):
            old.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", (row, f"id {row}", text, '{"n": 1}'))
            blob = b"short" if damaged and row == 2 else vector.tobytes()
            old.execute("INSERT INTO vectors VALUES (?, 1, ?)", (row, blob))
    old.close()


def test_a_collection_of_the_first_format_becomes_one_of_this(folder: Path, encoder: Any):
    version_1(folder, encoder)
    for _ in range(2):  # once brought over, then as it is
        with Collection.open(folder, encoder) as collection:
            assert collection.verify() == 2
            hit = collection.search("red cat", k=1)[0]
            assert (hit.id, hit.text, hit.metadata) == ("id 1", "red cat", {"n": 1})
    with Collection.open(folder, encoder) as collection:
        collection.upsert(["id 3"], ["dry land"])
        collection.delete(["id 1"])
        assert [document.id for document in collection.scan()] == ["id 2", "id 3"]


def test_a_collection_of_the_second_format_becomes_one_of_this(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as collection:
        collection.upsert(["a", "b"], ["red cat", "old town"])
    with sqlite3.connect(folder / "collection.db") as old:
        old.executescript(VERSION_2)
    old.close()
    for _ in range(2):
        with Collection.open(folder, encoder) as collection:
            assert collection.verify() == 2
            assert collection.search("red cat", k=1)[0].id == "a"
    with Collection.open(folder, encoder) as collection:
        collection.upsert(["c"], ["dry land"])
        assert collection.delete(["a"]) == 1
        assert [document.id for document in collection.scan()] == ["b", "c"]


def test_a_damaged_collection_of_the_first_format_is_left_as_it_was(folder: Path, encoder: Any):
    version_1(folder, encoder, damaged=True)
    for _ in range(2):
        with pytest.raises(FileCorruptError, match="row 2 is damaged"):
            Collection.open(folder, encoder)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE documents SET text = 'red bat' WHERE row = 1", "document 'a' is damaged"),
        ("UPDATE documents SET id = 1 WHERE row = 1", "document 1 is damaged"),
        ("UPDATE vectors SET checksum = checksum + 1 WHERE row = 1", "vector in row 1"),
        ("INSERT INTO vectors SELECT 9, vector, checksum FROM vectors WHERE row = 1", "not of the same rows"),
        ("DELETE FROM vectors WHERE row = 2", "2 documents and 1 vectors"),
        ("UPDATE vectors SET row = 9 WHERE row = 1", "not of the same rows"),
    ],
)
def test_verify_finds_what_does_not_belong(folder: Path, encoder: Any, damage: str, says: str):
    with Collection.create(folder, encoder) as collection:
        collection.upsert(["a", "b"], ["red cat", "old town"])
        with sqlite3.connect(folder / "collection.db") as other:
            other.execute(damage)
        other.close()
        with pytest.raises(FileCorruptError, match=says):
            collection.verify()


def test_no_flipped_bit_goes_unnoticed_by_verify(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(60)), [f"text {n} " * 5 for n in range(60)], [{"n": n} for n in range(60)])
    path = folder / "collection.db"
    whole, numbers = path.read_bytes(), np.random.default_rng(5)
    before = contents(folder, encoder)
    harmless = 0
    for place in numbers.integers(0, len(whole), 200):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << int(place) % 8)]) + whole[place + 1 :])
        for leftover in ("-wal", "-shm"):
            path.with_name(path.name + leftover).unlink(missing_ok=True)
        try:
            with Collection.open(folder, encoder) as collection:
                collection.verify()
            assert contents(folder, encoder) == before  # unused space, or a counter
            harmless += 1
        except (FileCorruptError, SaveError):
            pass
    assert harmless < 180


def contents(folder: Path, encoder: Any) -> list[Any]:
    with Collection.open(folder, encoder) as collection:
        return [*collection.scan(), collection.search(np.ones(16), k=99)]


READ_ONLY = """
import os, sys
from pathlib import Path
sys.path[:0] = [str(folder) for folder in Path(sys.argv[1]).parents[:2]]
import numpy as np
from conftest import RoleEncoder
from encoder_tools.errors import SaveError
from index import Collection
RoleEncoder().encode_query(["red cat"])  # imports the rest, which the next user might not be able to read
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
with Collection.open(sys.argv[2], RoleEncoder()) as collection:
    print([hit.id for hit in collection.search("red cat", k=1)], collection.verify())
    try:
        collection.upsert(["c"], ["x"], vectors=np.ones((1, 16)))
    except SaveError as error:
        print(error)
"""


def test_a_read_only_folder_can_be_searched(encoder: Any):
    parent = Path(tempfile.mkdtemp())
    try:
        folder = parent / "collection"
        with Collection.create(folder, encoder) as collection:
            collection.upsert(["a", "b"], ["red cat", "old town"])
        parent.chmod(0o755)
        (folder / "collection.db").chmod(0o444)
        folder.chmod(0o555)
        command = [sys.executable, "-c", READ_ONLY, __file__, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first == "['a'] 2"
        assert "check disk and permissions" in second
    finally:
        (parent / "collection").chmod(0o755)
        shutil.rmtree(parent)


def test_searches_do_not_wait_for_each_other_nor_for_a_writer(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(50)), [f"w{n}" for n in range(50)])
        collection.search("w1")
        inside, go_on, found = threading.Barrier(3), threading.Event(), []

        def slow() -> None:
            with collection.opened.read_view() as rest:
                inside.wait(10)
                go_on.wait(10)
                found.append(rest.reader.count())

        threads = [threading.Thread(target=slow) for _ in range(2)]
        for thread in threads:
            thread.start()
        inside.wait(10)  # both are in the middle of a search
        collection.upsert(["new"], ["new"])
        assert collection.search("new", k=1)[0].id == "new"
        go_on.set()
        for thread in threads:
            thread.join()
        assert found == [50, 50]  # the state that they began with
