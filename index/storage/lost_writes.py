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
from pathlib import Path
from typing import BinaryIO, NamedTuple

_HEADER, _FRAME = 32, 24  # bytes
_MAGIC = (0x377F0682, 0x377F0683)
_PAGE, _PAGES = 8192, frozenset(2**exponent for exponent in range(9, 17))  # of ours, where the header is damaged
_KEPT = "damaged"


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
    if before is None:
        return None
    try:
        _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:
        return None
    now = last_commit(log)
    if frames < 0 or frames >= before.frame or now is None or now.salts != before.salts:
        return None
    kept = log.with_name(f"{log.name}.{_KEPT}")
    if not kept.exists():
        shutil.copyfile(log, kept)
    return told(log)


def told(log: Path) -> str | None:
    """The same of what an earlier opening found, as long as the damaged log is kept."""
    kept = log.with_name(f"{log.name}.{_KEPT}")
    if not kept.exists():
        return None
    return (
        f"{log} was damaged: writes that had been acknowledged are lost. Restore a backup, or store them again; "
        f"the damaged log is kept as {kept.name}, delete it then."
    )
