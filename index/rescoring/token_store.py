"""Codes of the tokens of texts, kept beside a collection so that a text is encoded once.

A file of SQLite of its own, because it is derived: without it, or where a line of it is damaged, texts are encoded
again. A text is known by a hash of itself and of the model, so that it has its codes whatever document it is in.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import xxhash

from index.rescoring.token_codes import TokenCodes

_log = logging.getLogger(__name__)
NAME = "token_vectors.db"
_VERSION = 1
_AT_ONCE = 500  # keys of one statement
_TABLE = (
    "CREATE TABLE IF NOT EXISTS codes (key BLOB PRIMARY KEY, width INTEGER, checksum BLOB, data BLOB) WITHOUT ROWID"
)


def key_of(text: str, fingerprint: str) -> bytes:
    """Under which the codes of a text by a model are kept."""
    return hashlib.blake2b(f"{fingerprint}\0{text}".encode(), digest_size=16).digest()


class TokenStore:
    """Of one collection. Safe for threads and processes; a folder that cannot be written to keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._lock = threading.Lock()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, TokenCodes]:
        """Codes of those keys that are there and whole."""
        known: dict[bytes, TokenCodes] = {}
        if not self._path.is_file():
            return known
        with self._lock:
            try:
                with closing(self._connection()) as connection:
                    for start in range(0, len(keys), _AT_ONCE):
                        some = keys[start : start + _AT_ONCE]
                        marks = ",".join("?" * len(some))
                        rows = connection.execute(f"SELECT * FROM codes WHERE key IN ({marks})", some)  # noqa: S608
                        known |= {key: codes for key, *rest in rows if (codes := _read(*rest)) is not None}
            except sqlite3.DatabaseError as error:
                self._discard(error)
        return known

    def put(self, codes: Mapping[bytes, TokenCodes]) -> None:
        """Keep codes."""
        rows = [(key, one.shape[1], xxhash.xxh3_64_digest(data := one.tobytes()), data) for key, one in codes.items()]
        with self._lock:
            try:
                with closing(self._connection()) as connection, connection:
                    connection.execute(f"PRAGMA user_version = {_VERSION}")
                    connection.execute(_TABLE)
                    connection.executemany("INSERT OR REPLACE INTO codes VALUES (?, ?, ?, ?)", rows)
            except sqlite3.DatabaseError as error:
                self._discard(error)

    def prune(self, kept: Iterable[bytes]) -> int:
        """Forget all but some keys; how many went."""
        if not self._path.is_file():
            return 0
        with self._lock:
            try:
                with closing(self._connection()) as connection, connection:
                    connection.execute("CREATE TEMP TABLE kept (key BLOB PRIMARY KEY) WITHOUT ROWID")
                    connection.executemany("INSERT OR IGNORE INTO kept VALUES (?)", ((key,) for key in kept))
                    gone = connection.execute("DELETE FROM codes WHERE key NOT IN (SELECT key FROM kept)").rowcount
                    connection.commit()
                    if gone:
                        connection.execute("VACUUM")
                    return int(gone)
            except sqlite3.DatabaseError as error:
                self._discard(error)
                return 0

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=1.0)
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] not in (0, _VERSION):
                raise sqlite3.DatabaseError("it is of another version")
            connection.execute("PRAGMA synchronous = OFF")  # what a power failure damages is made again
        except BaseException:
            connection.close()
            raise
        return connection

    def _discard(self, error: sqlite3.DatabaseError) -> None:
        """Do without it now; a file that is damaged is removed, one that is in use or read-only stays."""
        if isinstance(error, sqlite3.OperationalError):
            _log.info("%s is not used now: %s", self._path, error)
            return
        _log.warning("%s cannot be read (%s): it is made anew.", self._path, error)
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _read(width: object, checksum: object, data: object) -> TokenCodes | None:
    """Codes of a line; None if they are not what was written."""
    if not isinstance(width, int) or not isinstance(data, bytes) or width < 1 or len(data) % width:
        return None
    if xxhash.xxh3_64_digest(data) != checksum:
        return None
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
