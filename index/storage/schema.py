"""The tables of a collection, and how an older format becomes this one.

``documents`` and ``vectors`` are the truth. A row number is never used again: a document that is replaced gets a new
row, so that whatever is derived from a row stays right as long as the row is there. ``log`` says which rows came and
went with each write, so that a reader catches up at the cost of what was written; ``writes`` gives each write a random
token, by which a file that was derived from one state knows it again. ``terms`` is the full-text index, see
:mod:`index.storage.fts` and :mod:`index.storage.fts_rebuild`. ``source`` is the id of the document that a row is a
piece of. ``id`` and ``source`` have no declared type: SQLite then keeps 1 and "1" apart. Vectors have their own table
to keep text pages dense. Each row carries the CRC-32 of what is in it: SQLite itself does not notice a flipped bit.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from encoder_tools.errors import FileCorruptError
from encoder_tools.protocols import FloatMatrix
from index.results import DocumentId
from index.storage import fts as lexical
from index.storage.database import DATABASE_NAME, Database, connect, translated
from index.storage.precision import STORAGES, dtype_of, held
from index.text.words import words_by

FORMAT_VERSION, _SMALL_VERSION = 4, 5  # the second of collections whose vectors are not float32
_APPLICATION_ID = 0x656E6354  # "encT": tells our databases from others
_PAGE = 8192  # five vectors of width 384 fill it by 94 %; of SQLite's own 4,096, two fill 75
_TABLES = """
CREATE TABLE documents (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id NOT NULL UNIQUE, text TEXT NOT NULL, metadata TEXT NOT NULL,
    checksum INTEGER NOT NULL, source
);
CREATE INDEX documents_by_source ON documents (source) WHERE source IS NOT NULL;
CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE log (sequence INTEGER, row INTEGER, added INTEGER NOT NULL, PRIMARY KEY (sequence, row)) WITHOUT ROWID;
CREATE TABLE writes (sequence INTEGER PRIMARY KEY, token BLOB NOT NULL);
INSERT INTO writes VALUES (0, randomblob(16));
"""
_META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;"


class About(NamedTuple):
    """What a collection says of itself.

    :ivar fingerprint: of the model that made the vectors, ``space`` that model's space.
    :ivar storage: how they are kept; see :data:`index.storage.precision.Storage`.
    """

    dim: int
    fingerprint: str
    space: str
    storage: str = "float32"

    @property
    def dtype(self) -> str:
        """NumPy's name of the numbers in the database."""
        return dtype_of(self.storage)

    @property
    def held(self) -> bool:
        """Whether the vectors are in memory, or mapped, and not in the database alone."""
        return held(self.storage)


def create(folder: Path, about: About, stemming: str | None = None) -> None:
    """Write an empty database into ``folder``, complete in one file.

    :param stemming: see :class:`index.text.words.Words`.
    :raises SaveError: if the disk is full or read-only.
    """
    path = folder / DATABASE_NAME
    path.touch()
    with translated(path), closing(connect(path, 0)) as connection:
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_META + _TABLES + lexical.TABLE)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        meta = {"format_version": _version(about), **about._asdict(), "sequence": 0, "count": 0, "logged": 0}
        meta |= {"stemming": stemming or "", "words": words_by(stemming).rules}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())


def read_about(database: Database) -> About:
    """Check that a database is a collection, bring it to this format, and read what it says of itself.

    :raises FileCorruptError: if it is no collection, or of a later format.
    :raises SaveError: if it is of an older format and cannot be written to.
    """
    with database.reading() as connection:
        meta = _meta(connection, database.path)
    if meta.get("format_version") in _OLDER:
        with database.writing() as connection:
            meta = _meta(connection, database.path)
            if meta.get("format_version") in _OLDER:  # no other process was faster
                _OLDER[meta["format_version"]](connection, database.path, meta)
                # no table of this name is left to processes of an older version, whose words are other words
                connection.execute("DROP TABLE IF EXISTS words")
                connection.execute("UPDATE meta SET value = ? WHERE key = 'format_version'", (FORMAT_VERSION,))
    elif meta.get("format_version") not in (FORMAT_VERSION, _SMALL_VERSION):
        raise FileCorruptError(
            f"{database.path} has format version {meta.get('format_version')!r}, this encoder-tools reads "
            f"{FORMAT_VERSION}. Upgrade encoder-tools."
        )
    if not all(map(_is_count, (meta.get("sequence"), meta.get("count", 0)))):
        raise FileCorruptError(f"{database.path} lacks its sequence number. Restore a backup.")
    return _about(meta, database.path)


def about_in(connection: sqlite3.Connection, path: Path) -> About:
    """What the state of a connection's transaction says of itself."""
    query = "SELECT key, value FROM meta WHERE key IN ('dim', 'fingerprint', 'space', 'storage')"
    return _about(dict(connection.execute(query)), path)


def _about(meta: dict[str, Any], path: Path) -> About:
    dim, fingerprint = meta.get("dim"), meta.get("fingerprint")
    if not isinstance(dim, int) or dim < 1 or not isinstance(fingerprint, str):
        raise FileCorruptError(f"{path} lacks its width or model. Restore a backup.")
    storage = meta.get("storage", "float32")
    if storage not in STORAGES:
        raise FileCorruptError(f"{path} keeps its vectors as {storage!r}, expected one of {', '.join(STORAGES)}.")
    return About(dim, fingerprint, str(meta.get("space", fingerprint)), storage)  # the first collections name no space


def _version(about: About) -> int:
    return FORMAT_VERSION if about.storage == "float32" else _SMALL_VERSION


def check_kind(database: Database) -> None:
    """Check that a database is a collection's.

    :raises FileCorruptError: if it is not.
    """
    with database.reading() as connection:
        _meta(connection, database.path)


def document_checksum(identifier: DocumentId, text: str, metadata: str, source: DocumentId | None = None) -> int:
    """CRC-32 of a document without its vector; 1 and "1" are two ids."""
    parts = [_kind(identifier), str(identifier), text, metadata]
    parts += [] if source is None else [_kind(source), str(source)]
    return zlib.crc32("\0".join(parts).encode("utf-8"))


def vector_checksum(vector: bytes) -> int:
    """CRC-32 of a vector's bytes."""
    return zlib.crc32(vector)


def vector_lines(rows: Sequence[int], vectors: FloatMatrix, about: About) -> Iterator[tuple[int, bytes, int]]:
    """Vectors (n, dim) as a table of vectors has them: row, bytes, checksum."""
    blobs = [vector.tobytes() for vector in vectors.astype(about.dtype)]
    return zip(rows, blobs, map(vector_checksum, blobs), strict=True)


def _kind(identifier: DocumentId) -> str:
    return "i" if isinstance(identifier, int) else "s"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _meta(connection: sqlite3.Connection, path: Path) -> dict[str, Any]:
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise FileCorruptError(f"{path} is an SQLite database but not a collection. Check the folder.")
    return dict(connection.execute("SELECT key, value FROM meta"))


def _from_version_1(connection: sqlite3.Connection, path: Path, meta: dict[str, Any]) -> None:
    """Version 1 had no checksums, no log and no delete; its rows had sequence numbers instead."""
    connection.execute("ALTER TABLE documents RENAME TO old_documents")
    connection.execute("ALTER TABLE vectors RENAME TO old_vectors")
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    width = 4 * int(meta["dim"])
    old = connection.execute(
        "SELECT d.row, d.id, d.text, d.metadata, v.vector FROM old_documents d LEFT JOIN old_vectors v USING (row)"
    )
    for row, identifier, text, metadata, vector in old:
        if not isinstance(vector, bytes) or len(vector) != width:
            raise FileCorruptError(f"{path}: the vector in row {row} is damaged. Restore a backup.")
        checksum = document_checksum(identifier, text, metadata)
        line = row, identifier, text, metadata, checksum, None
        connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)", line)
        connection.execute("INSERT INTO vectors VALUES (?, ?, ?)", (row, vector, vector_checksum(vector)))
    connection.execute("INSERT INTO meta SELECT 'count', count(*) FROM documents")
    connection.execute("DROP TABLE old_vectors")
    connection.execute("DROP TABLE old_documents")
    connection.execute("INSERT INTO meta VALUES ('logged', 0)")
    connection.execute("UPDATE writes SET sequence = ?", (meta["sequence"],))


def _from_version_2(connection: sqlite3.Connection, _: Path, meta: dict[str, Any]) -> None:
    """Version 2 had no pieces of documents, and no tokens of writes."""
    connection.execute("ALTER TABLE documents ADD COLUMN source")
    connection.execute("CREATE INDEX documents_by_source ON documents (source) WHERE source IS NOT NULL")
    connection.execute("CREATE TABLE writes (sequence INTEGER PRIMARY KEY, token BLOB NOT NULL)")
    connection.execute("INSERT INTO meta SELECT 'logged', count(*) FROM log")
    connection.execute("INSERT INTO writes VALUES (?, randomblob(16))", (meta["sequence"],))


def _from_version_3(connection: sqlite3.Connection, _: Path, meta: dict[str, Any]) -> None:
    """Version 3 had other words, which :func:`index.storage.fts_rebuild.bring_up_to_date` makes anew."""


_OLDER = {1: _from_version_1, 2: _from_version_2, 3: _from_version_3}
