"""New metadata for documents whose texts and vectors stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from index.collection.chunk_store import FIELDS
from index.query.view import DocumentReader
from index.results import Document, DocumentId
from index.storage.writer import Batch
from index.validation import check_metadata


def metadata_batches(
    reader: DocumentReader, ids: Sequence[DocumentId], metadata: Sequence[Mapping[str, Any] | None]
) -> Iterator[tuple[Batch, FloatMatrix]]:
    """What is to be written, with the vectors that there are.

    :raises InputError: for a document that is not there, or metadata with a field that pieces use themselves.
    """
    whole: list[tuple[int, Document, DocumentId | None]] = []
    pieces: list[tuple[int, Document, DocumentId | None]] = []
    pieces_of, rows = reader.pieces_of(ids), reader.rows_of_ids(ids)
    stored = reader.by_rows(sorted(rows.values()))
    for identifier, own in zip(ids, metadata, strict=True):
        documents = pieces_of.get(identifier, {})
        for row, piece in documents.items():
            kept = {name: piece.metadata[name] for name in FIELDS if name in piece.metadata}
            pieces.append((row, piece._replace(metadata={**_checked(identifier, own), **kept}), identifier))
        if not documents:
            if identifier not in rows:
                raise InputError(f"There is no document {identifier!r}, so it has no metadata. Nothing was changed.")
            row = rows[identifier]
            document = stored[row]
            whole.append((row, document._replace(metadata=dict(own or {})), None))
    for lines in (whole, pieces):
        if lines:
            yield _batch(lines), _vectors(reader, [row for row, _, _ in lines])


def _checked(identifier: DocumentId, own: Mapping[str, Any] | None) -> dict[str, Any]:
    taken = [name for name in FIELDS if name in (own or {})]
    if taken:
        raise InputError(f"Metadata of {identifier!r} has {taken[0]!r}, which its pieces use. Rename the field.")
    return dict(own or {})


def _batch(lines: Sequence[tuple[int, Document, DocumentId | None]]) -> Batch:
    documents = [document for _, document, _ in lines]
    sources = [source for _, _, source in lines if source is not None]
    metadata = check_metadata([document.metadata for document in documents], len(documents))
    return Batch(
        [document.id for document in documents], [document.text for document in documents], metadata, sources or None
    )


def _vectors(reader: DocumentReader, rows: Sequence[int]) -> FloatMatrix:
    by_row = reader.vectors_by_row(rows)
    return np.array([by_row[row] for row in rows], dtype=np.float32)
