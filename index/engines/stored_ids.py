"""Ids of documents as texts, for databases whose columns have one type."""

from __future__ import annotations

from index.results import DocumentId


def stored_id(identifier: DocumentId) -> str:
    """An id as a database has it: 1 and "1" are two."""
    return f"i{identifier}" if isinstance(identifier, int) else f"s{identifier}"


def id_of(stored: str) -> DocumentId:
    """The id that a database has."""
    return int(stored[1:]) if stored[0] == "i" else stored[1:]
