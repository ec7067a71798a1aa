"""Writes that damage has taken are told: by the write-ahead log, and by what was derived from them."""

import logging
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import FileCorruptError
from index import Collection
from index.ann import builder
from index.storage import lost_writes
from index.storage.database import DATABASE_NAME, Database
from index.storage.lost_writes import last_commit


def written(folder: Path, encoder: Any, copy: Path, writes: int = 6) -> Path:
    """A collection as a crash leaves it: acknowledged writes that are in the log alone."""
    with Collection.create(folder, encoder) as collection:
        for number in range(writes):
            collection.upsert([number], [f"text {number}"])
        shutil.copytree(folder, copy)
    (copy / "collection.db-shm").unlink(missing_ok=True)
    return copy


def test_an_undamaged_log_loses_nothing_and_nothing_is_said(
    folder: Path, encoder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    copy = written(folder, encoder, tmp_path / "copy")
    assert last_commit(copy / "collection.db-wal") is not None
    with caplog.at_level(logging.WARNING), Collection.open(copy, encoder) as collection:
        assert collection.count() == 6
        assert collection.verify() == 6
    assert not caplog.records
    assert not list(copy.glob("*.damaged"))


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_in_the_log_is_told_at_open_and_by_verify(
    folder: Path, encoder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
):
    copy = written(folder, encoder, tmp_path / "copy")
    log = copy / "collection.db-wal"
    data = bytearray(log.read_bytes())
    bit = int(np.random.default_rng(seed).integers(8 * 32, 8 * len(data)))
    data[bit // 8] ^= 1 << (bit % 8)
    log.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        try:
            collection = Collection.open(copy, encoder)
        except FileCorruptError:
            return  # the first write is in the log too: without it there is no collection, which is told as well
        with collection:
            lost = collection.count() < 6
            assert lost == any("acknowledged are lost" in record.getMessage() for record in caplog.records)
            if lost:
                with pytest.raises(FileCorruptError, match="acknowledged are lost"):
                    collection.verify()
                collection.upsert(["new"], ["written after"])
    if lost:
        with Collection.open(copy, encoder) as again, pytest.raises(FileCorruptError, match="delete it then"):
            again.verify()
        for kept in copy.glob("*.damaged"):
            kept.unlink()
        with Collection.open(copy, encoder) as again:
            assert again.verify() == again.count()


def test_a_log_that_was_cut_while_it_was_written_is_no_damage(
    folder: Path, encoder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The last write had not ended: nobody was told that it had."""
    copy = written(folder, encoder, tmp_path / "copy")
    log = copy / "collection.db-wal"
    with log.open("rb+") as file:
        file.truncate(log.stat().st_size - 4096)
    with caplog.at_level(logging.WARNING), Collection.open(copy, encoder) as collection:
        assert collection.count() == 5
        assert collection.verify() == 5
    assert not caplog.records


def test_an_index_ahead_of_its_database_is_told(
    folder: Path, encoder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(builder, "GRAPH_FROM", 100)
    vectors = np.random.default_rng(0).standard_normal((200, 16))
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(199)), ["t"] * 199, vectors=vectors[:199])
        collection.backup(tmp_path / "earlier")
        collection.upsert([199], ["t"], vectors=vectors[199:])
        collection.compact()
    shutil.copy(tmp_path / "earlier" / "collection.db", folder / "collection.db")
    with caplog.at_level(logging.WARNING), Collection.open(folder, encoder) as collection:
        assert "ends with write 1, but the index beside it was made after write 2" in caplog.text
        with pytest.raises(FileCorruptError, match="lost writes, or was restored"):
            collection.verify()
        collection.compact()
        assert collection.verify() == 199


def test_a_full_disk_is_told_and_reading_goes_on(collection: Collection, folder: Path, monkeypatch: pytest.MonkeyPatch):
    from encoder_tools.errors import SaveError
    from index.storage import writer

    collection.upsert(["a", "b"], ["red", "blue"])

    def full(*_: Any) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"  # type: ignore[attr-defined]
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_note", full)
        for verb in (lambda: collection.delete(["a"]), lambda: collection.upsert(["c"], ["x"])):
            with pytest.raises(SaveError, match=r"disk is full.*reading goes on\. Free space"):
                verb()
    assert collection.count() == 2
    assert [hit.id for hit in collection.search("red", 1)] == ["a"]
    assert collection.verify() == 2


def test_a_log_that_begins_anew_while_it_is_looked_at_is_not_damaged(folder: Path, encoder: Any):
    """A writer marks the log as empty a moment before it writes its header: whoever opens then sees old frames."""
    stop = threading.Event()
    with Collection.create(folder, encoder) as collection:

        def write() -> None:
            number = 0
            while not stop.is_set():
                collection.upsert([number % 5], [f"text {number}"])
                with collection.opened.database.writing() as connection:  # type: ignore[attr-defined]
                    connection.execute("UPDATE meta SET value = value WHERE key = 'count'")
                number += 1

        threads = [threading.Thread(target=write)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(300):
                database = Database(folder, busy_timeout=5)
                try:
                    with database.reading() as connection:
                        connection.execute("SELECT count(*) FROM documents").fetchone()
                    checkpointing = sqlite3.connect(folder / DATABASE_NAME)
                    checkpointing.execute("PRAGMA wal_checkpoint(PASSIVE)")
                    checkpointing.close()
                    assert database.lost_writes() is None
                finally:
                    database.close()
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_an_index_of_another_use_of_the_log_says_so(folder: Path, encoder: Any, tmp_path: Path):
    with Collection.create(folder, encoder) as collection:
        collection.upsert([1], ["text"])
        shutil.copytree(folder, tmp_path / "copy")
    log, index = tmp_path / "copy" / "collection.db-wal", tmp_path / "copy" / "collection.db-shm"
    assert not lost_writes._restarted(log)
    data = bytearray(index.read_bytes())
    data[35] += 1 if data[35] < 255 else -1
    index.write_bytes(data)
    assert lost_writes._restarted(log)
    header = bytearray(log.read_bytes())
    header[17] ^= 1  # a damaged header says nothing
    log.write_bytes(header)
    assert not lost_writes._restarted(log)
