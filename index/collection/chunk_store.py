"""Documents stored in chunks: which chunks are new, and which need not be encoded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from index.documents.chunking import Splitter
from index.query.view import DocumentReader
from index.results import Document, DocumentId, Hit
from index.storage.writer import Batch
from index.validation import check_ids, check_metadata

FIELDS = ("document", "chunk", "start", "end", "headings", "source_page")
"""What the metadata of a piece says beside what that of its document does."""


def place_of(document: Document | Hit) -> tuple[DocumentId, int] | None:
    """Of a chunk its document and number; None for what is none."""
    source, number = document.metadata.get("document"), document.metadata.get("chunk")
    if not isinstance(source, str | int) or not isinstance(number, int) or document.id != f"{source}#{number}":
        return None
    return source, number


class Cut(NamedTuple):
    """Pieces that are not stored as they are.

    :ivar known: stored vectors, by the text that they are of.
    :ivar documents: how many documents they are of.
    """

    batch: Batch
    known: dict[str, Any]
    documents: int


def cut_documents(
    splitter: Splitter,
    ids: Sequence[DocumentId],
    texts: Sequence[str],
    metadata: Sequence[Mapping[str, Any] | None] | None,
) -> dict[DocumentId, list[Document]]:
    """The pieces of each document.

    A piece is called ``document#0``, and its metadata are those of its document, with its id as "document", the
    number of the piece as "chunk", where it is in the source as "start" and "end", in characters, and "headings"; of
    a document with pages, the number of the page that it begins on as "source_page".

    :raises InputError: for a document without words, or metadata that have one of these fields.
    """
    cut = {}
    for position, (identifier, text) in enumerate(zip(ids, texts, strict=True)):
        own = dict((metadata[position] if metadata is not None else None) or {})
        taken = [name for name in FIELDS if name in own]
        if taken:
            raise InputError(f"Metadata {position} has {taken[0]!r}, which a piece uses itself. Rename the field.")
        chunks = splitter.split(text)
        if not chunks:
            raise InputError(f"Document {position}, {identifier!r}, has no words, so there is nothing to store of it.")
        cut[identifier] = [
            Document(
                f"{identifier}#{number}",
                chunk.text,
                {**own, "document": identifier, "chunk": number, "start": chunk.start, "end": chunk.end}
                | ({"headings": list(chunk.headings)} if chunk.headings else {})
                | ({} if chunk.page is None else {"source_page": chunk.page}),
            )
            for number, chunk in enumerate(chunks)
        ]
    return cut


def what_is_new(
    cut: Mapping[DocumentId, Sequence[Document]], reader: DocumentReader, known_vectors: Mapping[str, Any]
) -> Cut:
    """The pieces of those documents that are not stored just so.

    :param known_vectors: by text.
    """
    ids, texts, metadata, sources = [], [], [], []
    known = dict(known_vectors)
    documents, kept = 0, dict[int, str]()
    stored_of = reader.pieces_of(list(cut))
    for source, pieces in cut.items():
        stored = stored_of.get(source, {})
        if list(stored.values()) == list(pieces):
            continue
        documents += 1
        texts_ = {piece.text for piece in pieces}
        kept |= {row: piece.text for row, piece in stored.items() if piece.text in texts_}
        ids += [piece.id for piece in pieces]
        texts += [piece.text for piece in pieces]
        metadata += [piece.metadata for piece in pieces]
        sources += [source] * len(pieces)
    known |= {kept[row]: vector for row, vector in reader.vectors_by_row(kept).items()}
    return Cut(Batch(check_ids(ids), texts, check_metadata(metadata, len(ids)), sources), known, documents)


def missing(cut: Cut) -> list[str]:
    """Texts, each once, whose vectors are not known."""
    return [text for text in dict.fromkeys(cut.batch.texts) if text not in cut.known]


def with_vectors(cut: Cut, encoded: Mapping[str, Any], dim: int) -> FloatMatrix:
    """Unit vectors (n, dim) of all pieces."""
    vectors = {**cut.known, **encoded}
    return np.array([vectors[text] for text in cut.batch.texts], dtype=np.float32).reshape(-1, dim)
