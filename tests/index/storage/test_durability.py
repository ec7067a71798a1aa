import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import EncoderToolsError, FileCorruptError, FileMissingError, SaveError
from index import Collection
from index.storage import network_disks as disks

BATCH = 200
WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [str(folder) for folder in Path(sys.argv[1]).parents[:2]]
from conftest import RoleEncoder
from index import Collection
import numpy as np
collection, vectors = Collection.open(sys.argv[2], RoleEncoder()), np.eye(16)[np.arange(200) % 16]
for batch in range(10_000):
    collection.upsert([f"{batch}-{i}" for i in range(200)], ["text " * 50] * 200, vectors=vectors)
    print(batch, flush=True)
"""


def run_writer(folder: Path):
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, __file__, folder], stdout=subprocess.PIPE, text=True, cwd=root
    )


@pytest.mark.parametrize("delay", [0.003, 0.011, 0.029])
def test_a_killed_writer_leaves_whole_batches_and_all_acknowledged_ones(folder: Path, encoder: Any, delay: float):
    Collection.create(folder, encoder).close()
    with run_writer(folder) as writer:
        writer.stdout.readline()
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = 1 + len(writer.stdout.read().split())
    with Collection.open(folder, encoder) as collection:
        whole, rest = divmod(collection.count(), BATCH)
        assert rest == 0
        assert acknowledged <= whole <= acknowledged + 1
        assert None not in collection.get([f"{whole - 1}-{i}" for i in range(BATCH)])
        assert len(collection.search(np.ones(16), k=10**6)) == whole * BATCH


def test_a_reader_sees_what_another_process_has_committed_and_no_half_batch(folder: Path, encoder: Any):
    Collection.create(folder, encoder).close()
    with Collection.open(folder, encoder) as reader, run_writer(folder) as writer:
        counts = []
        while len(counts) < 30 or counts[-1] == 0:
            counts.append(len(reader.search(np.ones(16), k=10**6)))
        writer.kill()
        writer.stdout.read()
    assert all(count % BATCH == 0 for count in counts)
    assert counts == sorted(counts)


def test_a_write_that_fails_midway_leaves_nothing(collection: Collection):
    collection.upsert(["kept"], ["kept"])
    with sqlite3.connect(collection.folder / "collection.db") as other:
        other.execute(
            "CREATE TRIGGER stop BEFORE INSERT ON documents WHEN new.id = 'b' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    other.close()
    with pytest.raises(EncoderToolsError):
        collection.upsert(["kept", "a", "b"], ["changed", "x", "y"])
    assert [hit.text for hit in collection.search("kept")] == ["kept"]


def test_a_second_writer_waits_then_says_so(folder: Path, encoder: Any):
    with Collection.create(folder, encoder, busy_timeout=0.1) as collection:
        other = sqlite3.connect(folder / "collection.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SaveError, match="another writer"):
            collection.upsert([1], ["x"])
        assert collection.search("x") == []  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        collection.upsert([1], ["x"])
        assert collection.count() == 1


def test_threads_share_a_collection(collection: Collection):
    errors = []

    def work(thread: int):
        try:
            for i in range(10):
                collection.upsert([f"{thread}-{i}"], [f"w{i}"])
                collection.search(f"w{i}")
        except EncoderToolsError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, collection.count(), len(collection.search("w1", k=99))) == ([], 40, 40)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = [str(folder) for folder in Path(sys.argv[1]).parents[:2]]
from conftest import RoleEncoder
from encoder_tools.errors import SaveError
from index import Collection
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
folder, when = sys.argv[2:]
try:
    if when == "create":
        limit(5000)
        Collection.create(folder, RoleEncoder())
    with Collection.create(folder, RoleEncoder()) as collection:
        collection.upsert([1], ["kept"])
        limit(100_000)
        collection.upsert(list(range(500)), ["word " * 200] * 500)
except SaveError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("when", ["create", "upsert"])
def test_a_full_disk_is_one_clear_error_and_loses_nothing(folder: Path, encoder: Any, when: str):
    command = [sys.executable, "-c", FULL_DISK, __file__, str(folder), when]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it would write too
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3], env=env)
    assert done.returncode == 7, done.stderr
    assert done.stdout.count("\n") == 1
    if when == "create":
        assert list(folder.parent.iterdir()) == []
    else:
        with Collection.open(folder, encoder) as collection:
            assert [hit.text for hit in collection.search("kept")] == ["kept"]


@pytest.fixture
def filled(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(500)), [f"text {i} " * 20 for i in range(500)])
    return folder


def test_missing_things_are_named(tmp_path: Path, encoder: Any, filled: Path):
    with pytest.raises(FileMissingError, match="not a folder"):
        Collection.open(tmp_path / "nowhere", encoder)
    (filled / "collection.db").unlink()
    with pytest.raises(FileMissingError, match=r"collection\.db"):
        Collection.open(filled, encoder)
    assert list(filled.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"not a database " * 1000])
def test_a_file_that_is_no_database_is_refused(filled: Path, encoder: Any, data: bytes):
    (filled / "collection.db").write_bytes(data)
    with pytest.raises(FileCorruptError):
        Collection.open(filled, encoder)


def test_another_programs_database_is_refused(filled: Path, encoder: Any):
    shutil.rmtree(filled)
    filled.mkdir()
    with sqlite3.connect(filled / "collection.db") as other:
        other.execute("CREATE TABLE meta (key, value)")
    other.close()
    with pytest.raises(FileCorruptError, match="not a collection"):
        Collection.open(filled, encoder)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_truncated_database_is_refused(filled: Path, encoder: Any, keep: float):
    path = filled / "collection.db"
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(FileCorruptError):
        Collection.open(filled, encoder)


def test_damaged_pages_never_pass_silently(filled: Path, encoder: Any):
    path = filled / "collection.db"
    data = path.read_bytes()
    for start in range(0, len(data), 4096 * 3):
        path.write_bytes(data[:start] + b"\xff" * 4096 + data[start + 4096 :])
        try:
            with Collection.open(filled, encoder) as collection:
                hits = collection.search("text", k=500)
                assert sorted(hit.id for hit in hits) == list(range(500))
        except (FileCorruptError, SaveError):
            pass


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE meta SET value = 99 WHERE key = 'format_version'",
        "DELETE FROM meta WHERE key = 'dim'",
        "UPDATE vectors SET vector = x'00' WHERE row = 3",
        "UPDATE vectors SET vector = zeroblob(64) WHERE row = 3",
        "DELETE FROM vectors WHERE row = 3",
        "DELETE FROM documents WHERE row = 3",
    ],
)
def test_a_database_that_contradicts_itself_is_refused(filled: Path, encoder: Any, damage: str):
    with sqlite3.connect(filled / "collection.db") as other:
        other.execute(damage)
    other.close()
    with pytest.raises(FileCorruptError, match=r"collection"):
        Collection.open(filled, encoder)


def test_damaged_metadata_of_one_document_is_named(filled: Path, encoder: Any):
    with sqlite3.connect(filled / "collection.db") as other:
        other.execute("UPDATE documents SET metadata = '{' WHERE id = 3")
    other.close()
    with Collection.open(filled, encoder) as collection, pytest.raises(FileCorruptError, match="document 3"):
        collection.get([3])


@pytest.mark.parametrize(("kind", "warned"), [("nfs4", True), ("cifs", True), ("ext4", False), ("overlay", False)])
def test_a_network_disk_is_warned_of(
    folder: Path, encoder: Any, tmp_path: Path, kind: str, warned: bool, monkeypatch: pytest.MonkeyPatch
):
    Collection.create(folder, encoder).close()
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\nbroken\n"
        f"30 22 0:26 / {tmp_path.resolve()} rw shared:5 - {kind} server:/x rw\n31 22 0:27 / /mnt rw - nfs4 s:/y rw\n"
    )
    monkeypatch.setattr(disks, "_MOUNTS", mounts)
    if warned:
        with pytest.warns(UserWarning, match=rf"is on a network disk \({kind}\)"):
            Collection.open(folder, encoder).close()
    else:
        Collection.open(folder, encoder).close()  # a warning would be an error
    monkeypatch.setattr(disks, "_MOUNTS", tmp_path / "none")
    Collection.open(folder, encoder).close()


def test_compacting_gives_back_what_deletes_left_while_others_read(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as collection, Collection.open(folder, encoder) as other:
        collection.upsert(list(range(3000)), [f"document {n} " + "word " * 40 for n in range(3000)])
        reading = other.scan()
        next(reading)
        collection.delete(list(range(100, 3000)))
        before = (folder / "collection.db").stat().st_size + (folder / "collection.db-wal").stat().st_size
        collection.compact()
        assert int(collection.stats().bytes or 0) < before / 5
        for opened in (collection, other):
            assert opened.verify() == 100
            assert opened.search("document 7 " + "word " * 40, 1)[0].id == 7
            assert opened.search("document 7", 1, mode="lexical")[0].id == 7
        assert len(list(reading)) == 999  # the part that was read before
        collection.upsert([1], ["changed"])
        assert other.get([1])[0].text == "changed"
        size = (folder / "collection.db").stat().st_size
        collection.compact()  # there is little to be had now
        assert (folder / "collection.db").stat().st_size == size
