"""Detection of acknowledged writes that damage to SQLite's write-ahead log has lost.

SQLite reads its log up to the first frame whose checksum is wrong, and leaves out what comes behind: after a crash that
is a write that never ended, but after damage on the disk it is writes that had ended. The two differ: a log that was
cut off while it was written has no end of a transaction behind the place where it was cut.

Source: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

_HEADER, _FRAME = 32, 24  # bytes
_MAGIC = (0x377F0682, 0x377F0683)
_PAGE, _PAGES = 8192, frozenset(2**exponent for exponent in range(9, 17))  # of ours, where the header is damaged
_KEPT = "damaged"
_INDEX_SALTS = slice(32, 40)  # in the header of SQLite's shared index of the log


class LastCommit(NamedTuple):
    """The last frame of a log that ends a transaction: its number from 1, and the salts of the log."""

    frame: int
    salts: bytes


def last_commit(log: Path) -> LastCommit | None:
    """What a log says by the headers of its frames alone, whatever their checksums are; None of none."""
    try:
        with log.open("rb") as file:
            header = file.read(_HEADER)
            return _scan(file, header, log.stat().st_size) if len(header) == _HEADER else None
    except OSError:
        return None


def _page_size(header: bytes) -> int:
    magic, _, size = struct.unpack(">3I", header[:12])
    return int(size) if size in _PAGES and magic in _MAGIC else _PAGE


def _is_whole(header: bytes) -> bool:
    """Whether the checksum of a log's header is right; the magic number says in which order bytes are added up."""
    order = ">" if header[3] & 1 else "<"
    one = two = 0
    for left, right in struct.iter_unpack(f"{order}2I", header[:24]):
        one = one + left + two & 0xFFFFFFFF
        two = two + right + one & 0xFFFFFFFF
    return struct.unpack(">2I", header[24:32]) == (one, two)


def _scan(file: BinaryIO, header: bytes, size: int) -> LastCommit | None:
    page, last = _page_size(header), 0
    # frames of another salt are of an earlier use of the log; where the header is damaged, the first frame tells it
    salts = header[16:24] if _is_whole(header) else b""
    for number in range(1, (size - _HEADER) // (_FRAME + page) + 1):  # the page of a frame beyond was never written
        frame = file.read(_FRAME)
        salts = salts or frame[8:16]
        if frame[8:16] == salts and frame[4:8] != b"\0\0\0\0":  # size of the database: the end of a transaction
            last = number
        file.seek(page, 1)
    return LastCommit(last, salts) if last else None


def lost_writes(connection: sqlite3.Connection, log: Path, before: LastCommit | None) -> str | None:
    """What to say of writes that a log holds and SQLite does not read; None if there are none.

    :param before: :func:`last_commit` before SQLite opened the log.
    """
    if before is None or not _behind(connection, log, before) or not _behind_at_rest(connection, log, before):
        return None
    kept = log.with_name(f"{log.name}.{_KEPT}")
    if not kept.exists():
        shutil.copyfile(log, kept)
    return told(log)


def _behind(connection: sqlite3.Connection, log: Path, before: LastCommit) -> bool:
    """Whether SQLite reads less of the log than its frames say."""
    try:
        _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        return False
    now = last_commit(log)
    return 0 <= frames < before.frame and now is not None and now.salts == before.salts and not _restarted(log)


def _behind_at_rest(connection: sqlite3.Connection, log: Path, before: LastCommit) -> bool:
    """The same while nobody writes: the last frame of a transaction lies in the log before it is told to others."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        return "readonly" in str(error)  # else somebody is writing all the time, and nothing can be said
    try:
        now = last_commit(log)
        with closing(sqlite3.connect(log.with_name(log.name.removesuffix("-wal")))) as other:
            return now is not None and now.salts == before.salts and _behind(other, log, now)
    except sqlite3.Error:
        return True
    finally:
        connection.execute("ROLLBACK")


def _restarted(log: Path) -> bool:
    """Whether a writer has begun the log anew and not yet written its header.

    Then all of it is in the database; SQLite's shared index of the log has other salts by then. Where the header is
    damaged they may differ for that alone.
    """
    try:
        with log.open("rb") as file:
            header = file.read(_HEADER)
        with log.with_name(f"{log.name.removesuffix('-wal')}-shm").open("rb") as file:
            index = file.read(_INDEX_SALTS.stop)
    except OSError:
        return False
    return len(header) == _HEADER and _is_whole(header) and index[_INDEX_SALTS] != header[16:24]


def told(log: Path) -> str | None:
    """The same of what an earlier opening found, as long as the damaged log is kept."""
    kept = log.with_name(f"{log.name}.{_KEPT}")
    if not kept.exists():
        return None
    return (
        f"{log} was damaged: writes that had been acknowledged are lost. Restore a backup, or store them again; "
        f"the damaged log is kept as {kept.name}, delete it then."
    )
