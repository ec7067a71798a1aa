"""Collections: texts, their metadata and vectors in one SQLite database; found by meaning, by words, or by both.

Importing this package loads numpy and sqlite3 only; FAISS is imported when a collection has a graph.
"""

from __future__ import annotations

import index.engines  # noqa: F401 - which registers them
from index.collection.collection import Collection
from index.documents.chunking import Chunk, Chunking, Splitter
from index.results import Document, DocumentId, Hit, Hits, Part, Plan, Stats

__all__ = [
    "Chunk",
    "Chunking",
    "Collection",
    "Document",
    "DocumentId",
    "Hit",
    "Hits",
    "Part",
    "Plan",
    "Splitter",
    "Stats",
]
