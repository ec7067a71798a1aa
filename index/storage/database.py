"""The SQLite file of a collection: connections, transactions, and errors."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from encoder_tools.errors import EncoderToolsError, FileCorruptError, FileMissingError, SaveError
from index.storage import lost_writes as wal

_log = logging.getLogger(__name__)
DATABASE_NAME = "collection.db"
_READ = "BEGIN"
_PAGES = 1024  # copied at a time
_PAGE_COUNTS, _FREE_SHARE = ("freelist_count", "page_count"), 0.25  # of the pages, above which a file is shrunk
_CANNOT_WRITE = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_READONLY_CANTINIT", "SQLITE_READONLY_DIRECTORY")


class Database:
    """Connections to one file: one that writes, and as many that read as there are reads at the same time.

    :param busy_timeout: seconds to wait for another writer.
    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is no database.
    """

    def __init__(self, folder: Path, *, busy_timeout: float) -> None:
        self.path = folder / DATABASE_NAME
        if not self.path.is_file():
            raise FileMissingError(f"{self.path} does not exist. Make the collection with Collection.create.")
        self._timeout = busy_timeout
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        log = self.path.with_name(f"{self.path.name}-wal")
        before = wal.last_commit(log)
        connection = self._take()
        try:
            with translated(self.path):
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
                lost = wal.lost_writes(connection, log, before)
        finally:
            self._give_back(connection)
        if lost is not None:
            _log.error("%s", lost)
        self._write_log, self._file = log, _identity(self.path)

    def lost_writes(self) -> str | None:
        """What to say of acknowledged writes that damage has taken, if any."""
        return wal.told(self._write_log)

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """One committed state for every read in the block, whatever is written meanwhile, here or elsewhere."""
        return self._within(_READ)

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction that is on disk when the block ends, or not at all; others that write wait for it."""
        return self._within("BEGIN IMMEDIATE")

    @contextmanager
    def _within(self, begin: str) -> Iterator[sqlite3.Connection]:
        self._check_there()
        connection = self._take()
        try:
            with translated(self.path), _transaction(connection, begin):
                yield connection
        finally:
            self._give_back(connection)
        if begin != _READ:
            self._check_there()  # else the write would be acknowledged into a file that nobody can open any more

    def _check_there(self) -> None:
        """Check that the file that was opened is still the one of this name.

        :raises FileMissingError: if it was removed, moved or replaced.
        """
        if _identity(self.path) != self._file:
            raise FileMissingError(
                f"{self.path} was removed, moved or replaced since it was opened; nothing is written to it any more. "
                "Open what is there now."
            )

    def copy(self, path: Path) -> None:
        """Write the last committed state into a new file, in pieces, so that writers need not wait."""
        path.touch()
        source = self._take()
        try:
            with translated(path), closing(connect(path, 0)) as target:
                source.backup(target, pages=_PAGES)
        finally:
            self._give_back(source)

    def shrink(self) -> None:
        """Give back what deletes and replacements left free in the file, where that is much of it.

        Others wait to write meanwhile; those that read do not.

        :raises SaveError: if another writer does not finish in time, or the disk has no room for a second copy.
        """
        connection = self._take()
        try:
            with translated(self.path):
                free, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _PAGE_COUNTS)
                if free > _FREE_SHARE * pages:
                    connection.execute("VACUUM")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close the connections that are idle now, and the others when they come back; a second call does nothing."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        with translated(self.path):
            return connect(self.path, self._timeout)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has a name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """A connection to a file that exists; one of a folder that cannot be written to reads alone."""
    try:
        return _opened(path, "mode=rw", busy_timeout)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") not in _CANNOT_WRITE:
            raise
    wal = path.with_name(f"{path.name}-wal")
    # without a log beside it, nobody is writing: SQLite may then read the file without making its own beside it
    plain = not wal.is_file() or wal.stat().st_size == 0
    return _opened(path, "mode=ro&immutable=1" if plain else "mode=ro", busy_timeout)


def _opened(path: Path, mode: str, busy_timeout: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"  # never make a database where there is none
    # a connection is used by one thread at a time, which sqlite3 cannot know
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")  # a database from elsewhere must not run functions
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except EncoderToolsError:
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second where a damaged name or message is no text
        raise _translate(path, error) from error


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # left by an error, or by a commit that failed
            connection.execute("ROLLBACK")


def _translate(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> EncoderToolsError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return SaveError(f"{path} is locked by another writer. Nothing was written; try again when it has finished.")
    if name.startswith("SQLITE_FULL"):
        return SaveError(
            f"The disk is full, so {path} was not changed ({error}); reading goes on. Free space on that disk, a "
            "deletion too needs some for its log, and try again."
        )
    if name.startswith(("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return SaveError(
            f"{path} could not be used: {error}. Stored documents are untouched; check disk and permissions."
        )
    if name.startswith("SQLITE_TOOBIG"):
        return SaveError(
            f"{path} cannot hold a text or metadata of a gigabyte ({error}). Nothing was written; split it."
        )
    return FileCorruptError(f"{path} is damaged or not a collection ({error}). Restore a backup.")
