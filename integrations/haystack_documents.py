"""Haystack's documents as a collection stores them: the text, and all else in the metadata."""

from __future__ import annotations

from typing import Any

import numpy as np

from encoder_tools.extras import require_extra
from encoder_tools.protocols import FloatMatrix
from index.results import Document as Stored

require_extra("haystack", "haystack")
from haystack import Document  # noqa: E402

NOT_EMBEDDED = "not_embedded"
"""A field of documents whose vector stands for none."""
_LENGTH = "length"


def stored_of(document: Document, *, embedded: bool) -> Stored:
    """What is stored of a document.

    :param embedded: whether it has a vector.
    """
    metadata: dict[str, Any] = {"id": document.id, "meta": document.meta}
    if document.content is None:
        metadata["no_content"] = True
    if not embedded:
        metadata[NOT_EMBEDDED] = True
    if document.embedding is not None:
        metadata[_LENGTH] = float(np.linalg.norm(document.embedding))  # vectors are stored with length one
    for name in ("blob", "sparse_embedding"):
        value = getattr(document, name)
        if value is not None:
            metadata[name] = value.to_dict()
    return Stored(document.id, document.content or "", metadata)


def document_of(stored: Stored, vector: FloatMatrix | None = None) -> Document:
    """The document again.

    :param vector: its unit vector (dim,), if the embedding is to be there.
    """
    metadata = stored.metadata
    data: dict[str, Any] = {"id": str(stored.id), "content": None if "no_content" in metadata else stored.text}
    # of a collection that something else has filled, all metadata are Haystack's
    data["meta"] = metadata.get("meta", {}) if metadata.get("id") == stored.id else metadata
    data |= {name: metadata[name] for name in ("blob", "sparse_embedding") if name in metadata}
    if vector is not None and NOT_EMBEDDED not in metadata:
        data["embedding"] = (vector.astype(np.float64) * metadata.get(_LENGTH, 1.0)).tolist()
    document: Document = Document.from_dict(data)
    return document
