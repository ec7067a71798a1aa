"""Reads of a collection's tables in PostgreSQL, inside one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError
from encoder_tools.protocols import FloatMatrix
from index.engines.postgres.pg_connection import Connection, PgDatabase
from index.engines.postgres.pg_schema import about_in, get_meta
from index.engines.stored_ids import id_of, stored_id
from index.results import Document, DocumentId
from index.storage.schema import About, document_checksum, vector_checksum
from index.text.words import Words, words_by

_AT_ONCE = 5000
_CHECKSUMS = "SELECT row, id, checksum, vector_checksum FROM {schema}.documents"
_DOCUMENT = "SELECT row, id, text, metadata, checksum, source FROM {schema}.documents"


class PgReader:
    """One committed state; see :class:`index.query.view.DocumentReader`."""

    def __init__(self, database: PgDatabase, connection: Connection) -> None:
        self.database, self.connection = database, connection

    @cached_property
    def meta(self) -> dict[str, str]:
        """What the collection says of itself."""
        return get_meta(self.database, self.connection)

    @property
    def about(self) -> About:
        """Width, model and space of the vectors."""
        about = about_in(self.meta)
        if about is None:
            raise FileCorruptError(f"{self.database.address} names no model. Restore a backup.")
        return about

    @property
    def coming(self) -> About | None:
        """Of vectors that are filled in for another model."""
        return about_in(self.meta, "next_")

    @cached_property
    def words(self) -> Words:
        """What a word is in this collection."""
        return words_by(self.meta["stemming"] or None)

    def all(self, statement: str, values: Sequence[Any] = (), **parts: Any) -> list[Any]:
        """The lines of a query."""
        return self.connection.execute(self.database.named(statement, **parts), values).fetchall()

    def count(self) -> int:
        """How many documents are stored, as the writers have counted."""
        return int(self.meta["count"])

    def rows(self) -> NDArray[np.int64]:
        """Of all documents, ascending."""
        lines = self.all("SELECT row FROM {schema}.documents ORDER BY row")
        return np.array([row for (row,) in lines], dtype=np.int64)

    def ids(self) -> list[DocumentId]:
        """Of each document, also of those in chunks, in the order of their rows."""
        lines = self.all("SELECT coalesce(source, id) FROM {schema}.documents ORDER BY row")
        return [id_of(stored) for stored in dict.fromkeys(stored for (stored,) in lines)]

    def sources_of(self, rows: Sequence[int]) -> dict[int, DocumentId | None]:
        """Of rows that are chunks, the document that each is of."""
        lines = self.all("SELECT row, source FROM {schema}.documents WHERE row = ANY(%s)", (list(rows),))
        return {row: None if source is None else id_of(source) for row, source in lines}

    def checksums_after(self, row: int, limit: int) -> list[tuple[int, DocumentId, int, int]]:
        """Of the next documents after a row: row, id, and the checksums of the document and of its vector."""
        lines = self.all(f"{_CHECKSUMS} WHERE row > %s ORDER BY row LIMIT %s", (row, limit))
        return [(line[0], id_of(line[1]), *line[2:]) for line in lines]

    def checksums_of(self, ids: Sequence[DocumentId]) -> list[tuple[int, DocumentId, int, int]]:
        """The same of documents and chunks by their ids, of those that are there."""
        lines = self.all(f"{_CHECKSUMS} WHERE id = ANY(%s)", ([stored_id(one) for one in ids],))
        return [(line[0], id_of(line[1]), *line[2:]) for line in lines]

    def rows_of_ids(self, ids: Sequence[DocumentId]) -> dict[DocumentId, int]:
        """Rows of documents and chunks by their ids, of those that are there."""
        lines = self.all(
            "SELECT id, row FROM {schema}.documents WHERE id = ANY(%s)", ([stored_id(one) for one in ids],)
        )
        return {id_of(stored): row for stored, row in lines}

    def by_rows(self, rows: Sequence[int], *, some: bool = False) -> dict[int, Document]:
        """Documents by their row.

        :raises FileCorruptError: if one is not there or damaged.
        """
        documents: dict[int, Document] = {}
        for start in range(0, len(rows), _AT_ONCE):
            part = list(rows[start : start + _AT_ONCE])
            documents |= {
                line[0]: self._document(line) for line in self.all(f"{_DOCUMENT} WHERE row = ANY(%s)", (part,))
            }
        missing = [row for row in rows if row not in documents]
        if missing and not some:
            raise FileCorruptError(f"{self.database.address}: row {missing[0]} has no document. Restore a backup.")
        return documents

    def after(self, row: int, limit: int) -> list[tuple[int, Document]]:
        """The next documents after a row, with their rows."""
        lines = self.all(f"{_DOCUMENT} WHERE row > %s ORDER BY row LIMIT %s", (row, limit))
        return [(line[0], self._document(line)) for line in lines]

    def pieces_of(self, sources: Sequence[DocumentId]) -> dict[DocumentId, dict[int, Document]]:
        """Of documents that are stored in chunks, these by their rows, in their order."""
        pieces: dict[DocumentId, dict[int, Document]] = {}
        for line in self.all(
            f"{_DOCUMENT} WHERE source = ANY(%s) ORDER BY row", ([stored_id(one) for one in sources],)
        ):
            pieces.setdefault(id_of(line[5]), {})[line[0]] = self._document(line)
        return pieces

    def vectors_by_row(self, rows: Iterable[int]) -> dict[int, FloatMatrix]:
        """Vectors (dim,) of some rows, all of which are there.

        :raises FileCorruptError: if one is not, or is damaged.
        """
        wanted = sorted(set(rows))
        vectors: dict[int, FloatMatrix] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            vectors |= self._vectors(wanted[start : start + _AT_ONCE])
        if len(vectors) != len(wanted):
            raise FileCorruptError(f"{self.database.address}: rows that were written are gone. Restore a backup.")
        return vectors

    def _vectors(self, rows: list[int]) -> dict[int, FloatMatrix]:
        dtype = self.about.dtype
        query = "SELECT row, vector, vector_checksum FROM {schema}.documents WHERE row = ANY(%s)"
        vectors: dict[int, FloatMatrix] = {}
        with self.connection.cursor(binary=True) as cursor:
            for row, vector, checksum in cursor.execute(self.database.named(query), (rows,)):
                numbers = np.asarray(vector.to_numpy(), dtype=dtype)
                if vector_checksum(numbers.tobytes()) != checksum:
                    raise FileCorruptError(
                        f"{self.database.address}: the vector in row {row} is damaged. Restore a backup."
                    )
                vectors[row] = numbers.astype(np.float32)
        return vectors

    def rows_of_texts(self, ids: Sequence[DocumentId], texts: Sequence[str]) -> dict[str, int]:
        """Rows of documents that are called so and have that text already, by the text."""
        query = (
            "SELECT d.text, d.row FROM {schema}.documents d JOIN unnest(%s::text[], %s::text[]) AS given (id, text) "
            "ON d.id = given.id AND d.text = given.text"
        )
        return dict(self.all(query, ([stored_id(one) for one in ids], list(texts))))

    def _document(self, line: tuple[Any, ...]) -> Document:
        _, stored, text, metadata, checksum, source = line
        identifier = id_of(stored)
        if document_checksum(identifier, text, metadata, None if source is None else id_of(source)) != checksum:
            raise FileCorruptError(f"{self.database.address}: document {identifier!r} is damaged. Restore a backup.")
        return Document(identifier, text, json.loads(metadata))
