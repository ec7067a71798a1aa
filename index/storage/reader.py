"""Reads of a collection's tables, each inside a transaction of :meth:`index.storage.database.Database.reading`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError
from encoder_tools.protocols import FloatMatrix
from index.results import Document, DocumentId
from index.storage import fts as lexical
from index.storage import shadow_vectors as generations
from index.storage.fts import Occurrences
from index.storage.schema import About, about_in, document_checksum, vector_checksum
from index.storage.vector_block import Block, WriteToken
from index.text.words import Words

_BLOCK = 4096
_AT_ONCE = 500  # parameters of a statement
_decode = json.JSONDecoder().raw_decode  # of what json.dumps wrote: a third of the time of json.loads
_DOCUMENT = "SELECT row, id, text, metadata, checksum, source FROM documents"
_ROWS = "SELECT id, row FROM documents"
_SOURCES = "SELECT row, source FROM documents"
_CHECKSUMS = "SELECT d.row, d.id, d.checksum, v.checksum FROM documents d JOIN vectors v USING (row)"


class Change(NamedTuple):
    """Rows inserted and deleted after a sequence number, ascending; rows inserted and deleted again are in neither."""

    added: list[int]
    gone: list[int]


class Reader:
    """One committed state.

    :param path: named in errors.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    @cached_property
    def about(self) -> About:
        """Width, model and space of the vectors."""
        return about_in(self._connection, self._path)

    def knows(self, about: About) -> None:
        """Take what the state is known to say of itself, which need not be read then."""
        self.__dict__["about"] = about

    def write_token(self) -> WriteToken:
        """The state that is read."""
        sequence = self.sequence()
        return WriteToken(sequence, str(self.token_of(sequence)))

    def sequence(self) -> int:
        """Number of the last write."""
        return int(self._connection.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()[0])

    def token_of(self, sequence: int) -> str | None:
        """The random token of a write, as hex; None if there was none, or it is long ago."""
        line = self._connection.execute("SELECT hex(token) FROM writes WHERE sequence = ?", (sequence,)).fetchone()
        return None if line is None else str(line[0])

    def count(self) -> int:
        """How many documents are stored, as the writers have counted."""
        return int(self._connection.execute("SELECT value FROM meta WHERE key = 'count'").fetchone()[0])

    def counted(self) -> int:
        """How many documents are stored, counted one by one."""
        return int(self._connection.execute("SELECT count(*) FROM documents").fetchone()[0])

    def reembedded(self) -> tuple[str, int] | None:
        """Fingerprint of a model whose vectors are being filled in, and how many are there, if there is one."""
        about = generations.coming(self._connection)
        return None if about is None else (about.fingerprint, generations.done(self._connection))

    def changes_since(self, sequence: int) -> Change:
        """Rows that were inserted and deleted after ``sequence``; the cost is that of what was written."""
        last: dict[int, int] = {}
        first: dict[int, int] = {}
        query = "SELECT row, added FROM log WHERE sequence > ? ORDER BY sequence"
        for row, added in self._connection.execute(query, (sequence,)):
            first.setdefault(row, added)
            last[row] = added
        added_rows = sorted(row for row, added in last.items() if added)
        return Change(added_rows, sorted(row for row, added in last.items() if not added and not first[row]))

    def vectors(self, rows: Sequence[int] | None = None, *, some: bool = False) -> Iterator[Block]:
        """Vectors in blocks by ascending row: all, or those of ``rows``.

        :param some: rows that are gone are no damage.
        :raises FileCorruptError: naming a row whose vector is damaged.
        """
        query = "SELECT row, vector, checksum FROM vectors"
        if rows is None:
            cursor = self._connection.execute(f"{query} ORDER BY row")
            while lines := cursor.fetchmany(_BLOCK):
                yield self._block(lines)
            return
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            lines = self._connection.execute(
                f"{query} WHERE row IN ({_placeholders(part)}) ORDER BY row", part
            ).fetchall()
            if len(lines) != len(part) and not some:
                raise FileCorruptError(f"{self._path}: rows that were written have no vector. Restore a backup.")
            yield self._block(lines)

    def vectors_by_row(self, rows: Iterable[int]) -> dict[int, FloatMatrix]:
        """Vectors (dim,) of some rows, all of which are there; errors as :meth:`vectors`."""
        by_row: dict[int, FloatMatrix] = {}
        for block in self.vectors(sorted(rows)):
            by_row |= zip(block.rows.tolist(), block.vectors, strict=True)
        return by_row

    def by_rows(self, rows: Sequence[int], *, some: bool = False) -> dict[int, Document]:
        """Documents by their row.

        :param some: rows that are gone are no damage.
        :raises FileCorruptError: if one is not there or damaged.
        """
        documents: dict[int, Document] = {}
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            for line in self._connection.execute(f"{_DOCUMENT} WHERE row IN ({_placeholders(part)})", part):
                documents[line[0]] = self._document(line)
        missing = [row for row in rows if row not in documents]
        if missing and not some:
            raise FileCorruptError(f"{self._path}: row {missing[0]} has a vector but no document. Restore a backup.")
        return documents

    def metadata(self, rows: NDArray[np.int64]) -> list[dict[str, Any] | None]:
        """Metadata of ascending rows, in their order; None where a row is gone.

        :raises FileCorruptError: if it is no JSON object.
        """
        by_row: dict[int, dict[str, Any]] = {}
        query = "SELECT row, metadata FROM documents WHERE row BETWEEN ? AND ?"
        for row, text in self._connection.execute(query, (int(rows[0]), int(rows[-1])) if len(rows) else (1, 0)):
            try:
                value = json.loads(text)
            except (ValueError, TypeError, RecursionError):
                value = None
            if not isinstance(value, dict):
                raise FileCorruptError(f"{self._path}: the metadata in row {row} is damaged. Restore a backup.")
            by_row[row] = value
        return [by_row.get(row) for row in rows.tolist()]

    def pieces_of(self, sources: Sequence[DocumentId]) -> dict[DocumentId, dict[int, Document]]:
        """Of documents that are stored in pieces, these by their rows, in their order."""
        pieces: dict[DocumentId, dict[int, Document]] = {}
        for start in range(0, len(sources), _AT_ONCE):
            part = sources[start : start + _AT_ONCE]
            query = f"{_DOCUMENT} WHERE source IN ({_placeholders(part)}) ORDER BY row"
            for line in self._connection.execute(query, part):
                pieces.setdefault(line[5], {})[line[0]] = self._document(line)
        return pieces

    def after(self, row: int, limit: int) -> list[tuple[int, Document]]:
        """The next documents after a row, with their rows."""
        query = f"{_DOCUMENT} WHERE row > ? ORDER BY row LIMIT ?"
        return [(line[0], self._document(line)) for line in self._connection.execute(query, (row, limit))]

    def lexical(self, text: str, among: NDArray[np.int64] | None) -> lexical.Found:
        """Rows that match a text's words, best first, with BM25 scores; see :func:`index.storage.fts.find`."""
        return lexical.find(self._connection, text, among)

    def rows(self) -> NDArray[np.int64]:
        """Of all documents, ascending."""
        lines = self._connection.execute("SELECT row FROM documents ORDER BY row")
        return np.fromiter((row for (row,) in lines), dtype=np.int64)

    def occurrences(self) -> Iterator[Occurrences]:
        """All terms and where they are; see :func:`index.storage.fts.occurrences`."""
        return lexical.occurrences(self._connection)

    def rows_with(self, text: str) -> NDArray[np.int64]:
        """Rows that have all of a text's words, ascending."""
        return lexical.rows_with(self._connection, text)

    @cached_property
    def words(self) -> Words:
        """What a word is in this collection."""
        return lexical.words_in(self._connection)

    def some_texts(self, count: int, generator: np.random.Generator) -> list[str]:
        """Texts of up to ``count`` random documents."""
        last = self._connection.execute("SELECT max(row) FROM documents").fetchone()[0]
        rows = sorted({int(row) for row in generator.integers(1, (last or 0) + 1, size=2 * count)})[::2]
        return [document.text for document in self.by_rows(rows, some=True).values()]

    def ids(self) -> list[DocumentId]:
        """Of each document, also of those in pieces, in the order of their rows."""
        lines = self._connection.execute("SELECT coalesce(source, id) FROM documents ORDER BY row")
        return list(dict.fromkeys(identifier for (identifier,) in lines))

    def rows_of_texts(self, ids: Sequence[DocumentId], texts: Sequence[str]) -> dict[str, int]:
        """Rows of documents that are called so and have that text already, by the text."""
        query = "SELECT row FROM documents WHERE id = ? AND text = ?"
        pairs = zip(ids, texts, strict=True)
        lines = ((text, self._connection.execute(query, (identifier, text)).fetchone()) for identifier, text in pairs)
        return {text: int(line[0]) for text, line in lines if line is not None}

    def sources_of(self, rows: Sequence[int]) -> dict[int, DocumentId | None]:
        """Of rows that are chunks, the document that each is of."""
        sources: dict[int, DocumentId | None] = {}
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            query = f"{_SOURCES} WHERE row IN ({_placeholders(part)})"
            sources |= dict(self._connection.execute(query, part).fetchall())
        return sources

    def checksums_after(self, row: int, limit: int) -> list[tuple[int, DocumentId, int, int]]:
        """Of the next documents after a row: row, id, and the checksums of the document and of its vector."""
        return self._connection.execute(f"{_CHECKSUMS} WHERE d.row > ? ORDER BY d.row LIMIT ?", (row, limit)).fetchall()

    def checksums_of(self, ids: Sequence[DocumentId]) -> list[tuple[int, DocumentId, int, int]]:
        """The same of documents and chunks by their ids, of those that are there."""
        lines: list[tuple[int, DocumentId, int, int]] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            query = f"{_CHECKSUMS} WHERE d.id IN ({_placeholders(part)})"
            lines += self._connection.execute(query, part).fetchall()
        return lines

    def rows_of_ids(self, ids: Sequence[DocumentId]) -> dict[DocumentId, int]:
        """Rows of documents and pieces by their ids, of those that are there."""
        rows: dict[DocumentId, int] = {}
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            query = f"{_ROWS} WHERE id IN ({_placeholders(part)})"
            rows |= dict(self._connection.execute(query, part).fetchall())
        return rows

    def damage(self) -> str | None:
        """The first thing that SQLite finds wrong with its file, or None."""
        message = str(self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        return None if message == "ok" else message

    def _block(self, lines: Sequence[tuple[int, Any, Any]]) -> Block:
        width = np.dtype(self.about.dtype).itemsize * self.about.dim
        for row, blob, checksum in lines:
            if not isinstance(blob, bytes) or len(blob) != width or vector_checksum(blob) != checksum:
                raise FileCorruptError(f"{self._path}: the vector in row {row} is damaged. Restore a backup.")
        matrix = np.frombuffer(b"".join(blob for _, blob, _ in lines), dtype=self.about.dtype).reshape(
            -1, self.about.dim
        )
        return Block(np.array([row for row, _, _ in lines], dtype=np.int64), matrix.astype(np.float32))

    def _document(self, line: tuple[int, Any, Any, Any, Any, Any]) -> Document:
        _, identifier, text, metadata, checksum, source = line
        whole = isinstance(identifier, str | int) and isinstance(text, str) and isinstance(metadata, str)
        if not whole or document_checksum(identifier, text, metadata, source) != checksum:
            raise FileCorruptError(f"{self._path}: document {identifier!r} is damaged. Restore a backup.")
        return Document(identifier, text, _decode(metadata)[0])


def _placeholders(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
