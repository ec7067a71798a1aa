"""Reads of the documents in Milvus, as they are at the number of one write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError, UnavailableError
from encoder_tools.protocols import FloatMatrix
from index.engines.milvus.mv_conditions import EVERYTHING, among, both
from index.engines.milvus.mv_connection import MOST_LINES, MvDatabase
from index.engines.milvus.mv_rows import key_of
from index.engines.milvus.mv_state import State, lines_of, read_state
from index.engines.stored_ids import id_of, stored_id
from index.results import Document, DocumentId
from index.storage.schema import About, document_checksum, vector_checksum
from index.text.words import Words, words_by

_AT_ONCE = 500  # documents, each of 64 KiB at most
_KEYS_AT_ONCE, _CHUNKS_AT_ONCE = 1000, 5000
_CHECKSUMS = ("row", "id", "checksum", "vector_checksum")
_VECTOR = ("row", "vector", "vector_checksum")
_DOCUMENT = ("row", "id", "text", "metadata", "checksum", "source")


class MvReader:
    """One committed state; see :class:`index.query.view.DocumentReader`.

    :param state: as it was read; None to read it.
    """

    def __init__(self, database: MvDatabase, state: State | None = None) -> None:
        self.database = database
        self.state = read_state(database) if state is None else state

    @property
    def about(self) -> About:
        """Of the vectors that are searched."""
        return self.state.about

    @cached_property
    def words(self) -> Words:
        """What a word is in this collection."""
        return words_by(self.state.stemming or None)

    @property
    def lines(self) -> str:
        """The collection of the lines."""
        return lines_of(self.database, self.state.generation)

    def query(self, condition: str, fields: Sequence[str], limit: int = MOST_LINES) -> list[dict[str, Any]]:
        """Lines that are there and match, in the order of their rows; ``limit`` as in :meth:`MvDatabase.query`."""
        lines = self.database.query(self.lines, both(self.state.alive(), condition), fields, limit)
        return sorted(lines, key=lambda line: int(line["row"]))

    def pages(self, condition: str, fields: Sequence[str], most: int, after: int = 0) -> Iterator[list[dict[str, Any]]]:
        """Lines that match, by some at a time, in the order of their rows.

        Milvus says nothing of which lines a limit leaves out. So it is asked for ranges of rows that have no more.
        """
        start = after + 1
        while start < self.state.rows:
            part = self.query(both(f"row >= {start} and row < {start + most}", condition), fields, most)
            start = start + most if part else self._next_row(start + most, condition)
            if part:
                yield part

    def count(self) -> int:
        """How many documents are stored, as the writers have counted."""
        return self.state.documents

    def counted(self, condition: str) -> int:
        """How many lines match."""
        return self.database.count(self.lines, both(self.state.alive(), condition))

    def rows_of(self, condition: str) -> NDArray[np.int64]:
        """Rows of lines that match, ascending."""
        parts = self.pages(condition, ("row",), MOST_LINES)
        return np.array([line["row"] for part in parts for line in part], dtype=np.int64)

    def ids(self) -> list[DocumentId]:
        """Of each document, also of those in chunks, in the order of their rows."""
        parts = self.pages(EVERYTHING, ("row", "id", "source"), _KEYS_AT_ONCE)
        named = dict.fromkeys(line["source"] or line["id"] for part in parts for line in part)
        return [id_of(stored) for stored in named]

    def sources_of(self, rows: Sequence[int]) -> dict[int, DocumentId | None]:
        """Of rows that are chunks, the document that each is of."""
        lines = self._by_rows(rows, ("row", "source"))
        return {line["row"]: id_of(line["source"]) if line["source"] else None for line in lines}

    def checksums_after(self, row: int, limit: int) -> list[tuple[int, DocumentId, int, int]]:
        """Of the next documents after a row: row, id, and the checksums of the document and of its vector."""
        lines = self._next(row, limit, _CHECKSUMS)
        return [(line["row"], id_of(line["id"]), line["checksum"], line["vector_checksum"]) for line in lines]

    def checksums_of(self, ids: Sequence[DocumentId]) -> list[tuple[int, DocumentId, int, int]]:
        """The same of documents and chunks by their ids, of those that are there."""
        lines = self.by_keys("key", [key_of(stored_id(one)) for one in ids], _CHECKSUMS)
        return [(line["row"], id_of(line["id"]), line["checksum"], line["vector_checksum"]) for line in lines]

    def rows_of_ids(self, ids: Sequence[DocumentId]) -> dict[DocumentId, int]:
        """Rows of documents and chunks by their ids, of those that are there."""
        lines = self.by_keys("key", [key_of(stored_id(one)) for one in ids], ("row", "id"))
        return {id_of(line["id"]): line["row"] for line in lines}

    def by_rows(self, rows: Sequence[int], *, some: bool = False) -> dict[int, Document]:
        """Documents by their row.

        :raises FileCorruptError: if one is not there or damaged.
        """
        documents = {line["row"]: self.document_of(line) for line in self._by_rows(rows, _DOCUMENT)}
        missing = [row for row in rows if row not in documents]
        if missing and not some:
            raise self._lacking(missing[0])
        return documents

    def after(self, row: int, limit: int) -> list[tuple[int, Document]]:
        """The next documents after a row, with their rows."""
        return [(line["row"], self.document_of(line)) for line in self._next(row, limit, _DOCUMENT)]

    def pieces_of(self, sources: Sequence[DocumentId]) -> dict[DocumentId, dict[int, Document]]:
        """Of documents that are stored in chunks, these by their rows, in their order."""
        pieces: dict[DocumentId, dict[int, Document]] = {}
        lines = self.by_keys("source_key", [key_of(stored_id(one)) for one in sources], ("row", "source"))
        documents = self.by_rows([line["row"] for line in lines])
        for line in sorted(lines, key=lambda line: int(line["row"])):
            pieces.setdefault(id_of(line["source"]), {})[line["row"]] = documents[line["row"]]
        return pieces

    def vectors_by_row(self, rows: Iterable[int]) -> dict[int, FloatMatrix]:
        """Vectors (dim,) of some rows, all of which are there.

        :raises FileCorruptError: if one is not, or is damaged.
        """
        chosen = sorted(set(rows))
        vectors = self.vectors_of_those(chosen)
        missing = [row for row in chosen if row not in vectors]
        if missing:
            raise self._lacking(missing[0])
        return vectors

    def vector_of(self, line: dict[str, Any]) -> FloatMatrix:
        """A line's vector.

        :raises FileCorruptError: if it is damaged.
        """
        vector = np.asarray(line["vector"], dtype=np.float32)
        if vector_checksum(vector.astype(self.about.dtype).tobytes()) != line["vector_checksum"]:
            raise FileCorruptError(
                f"{self.database.address}: the vector in row {line['row']} is damaged. Restore a backup."
            )
        return vector

    def rows_of_texts(self, ids: Sequence[DocumentId], texts: Sequence[str]) -> dict[str, int]:
        """Rows of documents that are called so and have that text already, by the text."""
        given = dict(zip(map(stored_id, ids), texts, strict=True))
        lines = self.by_keys("key", [key_of(one) for one in given], ("row", "id", "text"))
        return {line["text"]: line["row"] for line in lines if given.get(line["id"]) == line["text"]}

    def by_keys(self, field: str, keys: Sequence[str], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Lines by their keys; a key of ``source_key`` has as many as the document has chunks."""
        lines: list[dict[str, Any]] = []
        for start in range(0, len(keys), _AT_ONCE):
            condition = among(field, keys[start : start + _AT_ONCE])
            if field == "key":
                lines += self.query(condition, fields)
            elif self.counted(condition):
                lines += (line for part in self.pages(condition, fields, _CHUNKS_AT_ONCE) for line in part)
        return lines

    def vectors_of_those(self, rows: Sequence[int]) -> dict[int, FloatMatrix]:
        """Vectors (dim,) of some rows, of those that are there."""
        return {line["row"]: self.vector_of(line) for line in self._by_rows(rows, _VECTOR)}

    def other(self, said: str) -> FileCorruptError | UnavailableError:
        """What to raise where it is not all there that should be."""
        if read_state(self.database).vacuumed > self.state.sequence:
            return UnavailableError(f"{self.database.address} was written to while it was read for long. Try again.")
        return FileCorruptError(said)

    def _lacking(self, row: int) -> FileCorruptError | UnavailableError:
        return self.other(f"{self.database.address}: row {row} has no document. Restore a backup.")

    def _next_row(self, start: int, condition: str) -> int:
        """The first row from some row on that matches; behind a long gap that is found by few calls."""
        for first in range(start, self.state.rows, MOST_LINES):
            lines = self.query(both(f"row >= {first} and row < {first + MOST_LINES}", condition), ("row",))
            if lines:
                return int(lines[0]["row"])
        return self.state.rows

    def _by_rows(self, rows: Sequence[int], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(rows), _AT_ONCE):
            yield from self.query(among("row", [int(row) for row in rows[start : start + _AT_ONCE]]), fields)

    def _next(self, row: int, limit: int, fields: Sequence[str]) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        for part in self.pages(EVERYTHING, fields, min(limit, _KEYS_AT_ONCE), after=max(0, row)):
            lines += part
            if len(lines) >= limit:
                break
        return lines[:limit]

    def document_of(self, line: dict[str, Any]) -> Document:
        """A line's document.

        :raises FileCorruptError: if it is damaged.
        """
        identifier, text, metadata = id_of(line["id"]), line["text"], line["metadata"]
        source = id_of(line["source"]) if line["source"] else None
        if document_checksum(identifier, text, metadata, source) != line["checksum"]:
            raise FileCorruptError(f"{self.database.address}: document {identifier!r} is damaged. Restore a backup.")
        return Document(identifier, text, json.loads(metadata))
