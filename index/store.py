"""The truth of a collection: one SQLite database in WAL mode, synchronous=FULL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import EncoderToolsError, FileCorruptError, FileMissingError, SaveError
from encoder_tools.protocols import FloatMatrix
from index.results import Document, DocumentId

DATABASE_NAME = "collection.db"
FORMAT_VERSION = 1
_APPLICATION_ID = 0x656E6354  # "encT": tells our databases from others
_BLOCK = 4096
# `id` has no declared type, so SQLite keeps 1 and "1" apart. Vectors have their own table to keep text pages dense.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE documents (row INTEGER PRIMARY KEY, id NOT NULL UNIQUE, text TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE vectors (row INTEGER PRIMARY KEY REFERENCES documents, sequence INTEGER NOT NULL, vector BLOB NOT NULL);
CREATE INDEX vectors_by_sequence ON vectors (sequence);
"""
_UPSERT_DOCUMENT = """
INSERT INTO documents (id, text, metadata) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET text = excluded.text, metadata = excluded.metadata RETURNING row
"""
_UPSERT_VECTOR = "INSERT OR REPLACE INTO vectors (row, sequence, vector) VALUES (?, ?, ?)"


class VectorBlock(NamedTuple):
    """Stored vectors: row numbers int64 (n,) and unit vectors float32 (n, dim)."""

    rows: NDArray[np.int64]
    vectors: FloatMatrix


class Store:
    """An open database. Not safe for threads by itself: the collection holds a lock around it.

    :param busy_timeout: seconds to wait for another writer.
    :raises FileMissingError: if there is no database in ``folder``.
    :raises FileCorruptError: if it is damaged or not a collection's.
    """

    def __init__(self, folder: Path, *, busy_timeout: float) -> None:
        self._path = folder / DATABASE_NAME
        if not self._path.is_file():
            raise FileMissingError(f"{self._path} does not exist. Make the collection with Collection.create.")
        with translated(self._path):
            self._connection = _connect(self._path, busy_timeout)
        try:
            with translated(self._path):
                self._read_meta()
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def create(cls, folder: Path, *, dim: int, fingerprint: str, space: str) -> None:
        """Write an empty database into ``folder``, complete in one file.

        :raises SaveError: if the disk is full or read-only.
        """
        path = folder / DATABASE_NAME
        path.touch()
        with translated(path), closing(_connect(path, 0)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            meta = {
                "format_version": FORMAT_VERSION,
                "dim": dim,
                "fingerprint": fingerprint,
                "space": space,
                "sequence": 0,
            }
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One committed state for every read in the block, whatever other processes write meanwhile."""
        with self._transaction("BEGIN"):
            yield

    def sequence(self) -> int:
        """Number of the last committed write."""
        return int(self._connection.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()[0])

    def count(self) -> int:
        """How many documents are stored."""
        return int(self._connection.execute("SELECT count(*) FROM documents").fetchone()[0])

    def vectors_since(self, sequence: int) -> Iterator[VectorBlock]:
        """Vectors written after ``sequence``, in blocks.

        :raises FileCorruptError: naming a row whose vector is not a unit vector of the collection's width.
        """
        cursor = self._connection.execute(
            "SELECT row, vector FROM vectors WHERE sequence > ? ORDER BY row", (sequence,)
        )
        while found := cursor.fetchmany(_BLOCK):
            for row, blob in found:
                if not isinstance(blob, bytes) or len(blob) != 4 * self.dim:
                    raise FileCorruptError(f"{self._path}: the vector in row {row} is damaged. Restore a backup.")
            matrix = np.frombuffer(b"".join(blob for _, blob in found), dtype="<f4").reshape(-1, self.dim)
            norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
            broken = ~(np.abs(norms - 1) < 1e-3)
            if broken.any():
                row = found[int(broken.argmax())][0]
                raise FileCorruptError(f"{self._path}: the vector in row {row} is damaged. Restore a backup.")
            yield VectorBlock(np.array([row for row, _ in found], dtype=np.int64), matrix.astype(np.float32))

    def by_row(self, row: int) -> Document:
        """The document in ``row``.

        :raises FileCorruptError: if it is not there or not readable.
        """
        query = "SELECT id, text, metadata FROM documents WHERE row = ?"
        found = self._connection.execute(query, (row,)).fetchone()
        if found is None:
            raise FileCorruptError(f"{self._path}: row {row} has a vector but no document. Restore a backup.")
        return self._document(found)

    def by_id(self, identifier: DocumentId) -> Document | None:
        """The document called ``identifier``, if there is one."""
        query = "SELECT id, text, metadata FROM documents WHERE id = ?"
        found = self._connection.execute(query, (identifier,)).fetchone()
        return None if found is None else self._document(found)

    def upsert(
        self, ids: Sequence[DocumentId], texts: Sequence[str], metadata: Sequence[str], vectors: FloatMatrix
    ) -> None:
        """Write a batch, all or nothing, flushed to disk on return.

        :raises SaveError: if another process keeps the database locked, or the disk is full or read-only.
        """
        with self._transaction("BEGIN IMMEDIATE"):
            sequence = self.sequence() + 1
            for identifier, text, meta, vector in zip(ids, texts, metadata, vectors, strict=True):
                # fetchall, not fetchone: the statement must be finished before the commit
                ((row,),) = self._connection.execute(_UPSERT_DOCUMENT, (identifier, text, meta)).fetchall()
                self._connection.execute(_UPSERT_VECTOR, (row, sequence, vector.astype("<f4").tobytes()))
            self._connection.execute("UPDATE meta SET value = ? WHERE key = 'sequence'", (sequence,))

    def _read_meta(self) -> None:
        if self._connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise FileCorruptError(f"{self._path} is an SQLite database but not a collection. Check the folder.")
        meta = dict(self._connection.execute("SELECT key, value FROM meta"))
        if meta.get("format_version") != FORMAT_VERSION:
            raise FileCorruptError(
                f"{self._path} has format version {meta.get('format_version')!r}, this encoder-tools reads "
                f"{FORMAT_VERSION}. Upgrade encoder-tools."
            )
        dim, fingerprint, sequence = meta.get("dim"), meta.get("fingerprint"), meta.get("sequence")
        if not isinstance(dim, int) or dim < 1 or not isinstance(fingerprint, str) or not isinstance(sequence, int):
            raise FileCorruptError(f"{self._path} lacks its width, model or sequence number. Restore a backup.")
        self.dim: int = dim
        self.fingerprint: str = fingerprint
        self.space = str(meta.get("space", fingerprint))  # the first collections name none

    def _document(self, found: tuple[Any, Any, Any]) -> Document:
        identifier, text, metadata = found
        try:
            value = json.loads(metadata)
        except (ValueError, TypeError, RecursionError):
            value = None
        if not isinstance(value, dict) or not isinstance(text, str) or not isinstance(identifier, str | int):
            raise FileCorruptError(f"{self._path}: document {identifier!r} is damaged. Restore a backup.")
        return Document(identifier, text, value)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with translated(self._path):
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:  # left by an error, or by a commit that failed
                    self._connection.execute("ROLLBACK")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except EncoderToolsError:
        raise
    except sqlite3.Error as error:
        raise _translate(path, error) from error


def _connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    uri = path.absolute().as_uri() + "?mode=rw"  # rw: never make a database where there is none
    # The collection's lock serialises its threads, which sqlite3 cannot know.
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")  # a database from elsewhere must not run functions
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _translate(path: Path, error: sqlite3.Error) -> EncoderToolsError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return SaveError(f"{path} is locked by another writer. Nothing was written; try again when it has finished.")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return SaveError(
            f"{path} could not be used: {error}. Stored documents are untouched; check disk and permissions."
        )
    return FileCorruptError(f"{path} is damaged or not a collection ({error}). Restore a backup.")
