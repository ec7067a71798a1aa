"""Collections: texts, their metadata and vectors in one SQLite database, searched exactly with FAISS.

Importing this package loads numpy and sqlite3 only; FAISS is imported when a collection is opened.
"""

from __future__ import annotations

from index.collection import Collection
from index.results import Document, DocumentId, Hit, Part

__all__ = ["Collection", "Document", "DocumentId", "Hit", "Part"]
