"""What a collection gives back."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

DocumentId: TypeAlias = str | int
"""The caller's own id of a document; ``1`` and ``"1"`` are two ids."""


class Document(NamedTuple):
    """A stored document."""

    id: DocumentId
    text: str
    metadata: dict[str, Any]


class Hit(NamedTuple):
    """A document that was found; ``score`` is the cosine of its vector with the query's, in [-1, 1]."""

    id: DocumentId
    score: float
    text: str
    metadata: dict[str, Any]
