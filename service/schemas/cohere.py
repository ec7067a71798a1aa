"""Cohere's bodies, https://docs.cohere.com/reference/rerank and https://docs.cohere.com/reference/embed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from service.schemas.common import Dimensions, Matrix, Text, Texts

EmbeddingKind = Literal["float", "base64", "binary", "ubinary"]


class RerankDocument(msgspec.Struct, frozen=True):
    """A document with its text in a field."""

    text: Text


Documents = Annotated[list[Text | RerankDocument], msgspec.Meta(min_length=1)]


class RerankRequest(msgspec.Struct, frozen=True):
    """``POST /v1/rerank`` and ``POST /v2/rerank``; ``model`` None takes the first.

    :ivar truncate: cut what is too long; so does ``max_tokens_per_doc``, Cohere's own, whatever its figure.
    """

    query: Text
    documents: Documents
    model: str | None = None
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool = False
    truncate: bool | None = None
    max_tokens_per_doc: Annotated[int, msgspec.Meta(ge=1)] | None = None


@dataclass(frozen=True)
class RerankResult:
    """One document, best first.

    :ivar relevance_score: in [0, 1]; of an embedder (1 + cosine) / 2.
    :ivar document: if it was asked for: an object with its text, on ``/rerank`` the text itself, as infinity has it.
    """

    index: int
    relevance_score: float
    document: dict[str, str] | str | None = None


@dataclass(frozen=True)
class RerankResponse:
    """``usage`` as infinity, vLLM and Jina give it, ``meta`` as Cohere does."""

    id: str
    model: str
    results: list[RerankResult]
    usage: dict[str, int]
    meta: dict[str, Any]


class CohereEmbedRequest(msgspec.Struct, frozen=True):
    """``POST /v2/embed``.

    :ivar input_type: "search_query", "search_document", "classification", "clustering", or a prompt's name.
    :ivar truncate: which end of what is too long is cut off; NONE refuses it.
    """

    model: str
    texts: Texts
    input_type: str | None = None
    embedding_types: Annotated[list[EmbeddingKind], msgspec.Meta(min_length=1)] | None = None
    output_dimension: Dimensions | None = None
    truncate: Literal["NONE", "START", "END"] = "END"


@dataclass(frozen=True)
class CohereEmbeddings:
    """Vectors (n, dim) by the kinds that were asked for, the others None."""

    float: Matrix | None = None
    base64: list[str] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None


@dataclass(frozen=True)
class CohereEmbedResponse:
    """``POST /v2/embed``."""

    id: str
    embeddings: CohereEmbeddings
    texts: list[str]
    meta: dict[str, Any]
    response_type: str = "embeddings_by_type"
