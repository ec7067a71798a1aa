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


class Part(NamedTuple):
    """What one part of a search made of a document.

    :ivar name: "dense" or "lexical".
    :ivar rank: from 1.
    :ivar score: a cosine, or BM25.
    """

    name: str
    rank: int
    score: float


class Hit(NamedTuple):
    """A document that was found.

    :ivar score: the cosine of its vector with the query's, in [-1, 1]; in lexical search BM25, the higher the better;
        in hybrid search what the fusion made of both.
    :ivar parts: of hybrid search: where each part that found it had it.
    """

    id: DocumentId
    score: float
    text: str
    metadata: dict[str, Any]
    parts: tuple[Part, ...] = ()
