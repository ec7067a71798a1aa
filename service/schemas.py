"""What goes over the wire. Requests are msgspec structs (checked while they are decoded), responses are dataclasses.

Unknown fields of a request are ignored, as OpenAI's clients expect: they send ``user`` and fields of other servers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from numpy.typing import NDArray

TokenId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
MAX_HITS, MAX_OFFSET = 1000, 100_000


class EmbeddingRequest(msgspec.Struct, frozen=True):
    """``POST /v1/embeddings``, https://platform.openai.com/docs/api-reference/embeddings/create.

    :ivar input: a text, a list of texts, a list of token ids, or a list of lists of token ids.
    :ivar model: a name that the server serves.
    :ivar encoding_format: "float" (default) or "base64" (little-endian float32).
    :ivar dimensions: width to cut the vectors to; they are normalised again.
    :ivar truncate: our addition: cut inputs over the model's maximum length instead of refusing them.
    """

    input: str | list[str | TokenId | list[TokenId]]
    model: str
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    truncate: bool | None = None


class SearchRequest(msgspec.Struct, frozen=True):
    """``POST /search``: the ``k`` texts of the loaded collection that ``query`` finds.

    All but ``truncate`` is as in :meth:`index.collection.Collection.search_many`.
    """

    query: str
    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_HITS)] = 10
    mode: Literal["dense", "lexical", "hybrid"] = "dense"
    where: dict[str, Any] | None = None
    min_score: float | None = None
    offset: Annotated[int, msgspec.Meta(ge=0, le=MAX_OFFSET)] = 0
    fusion: Literal["rrf", "weighted"] = "rrf"
    weights: dict[str, float] | None = None
    group_by: str | None = None
    diversity: float = 0.0
    highlight: bool = False
    truncate: bool | None = None


class ClassifyRequest(msgspec.Struct, frozen=True):
    """``POST /classify``: the ``top`` most probable labels of each text."""

    input: str | list[str]
    top: Annotated[int, msgspec.Meta(ge=1, le=MAX_HITS)] = 5
    truncate: bool | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens that the model read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True)
class EmbeddingRow:
    """One vector: floats of shape (dim,), or their bytes in base64."""

    embedding: NDArray[Any] | str
    index: int
    object: str = "embedding"


@dataclass(frozen=True)
class EmbeddingResponse:
    """Vectors in the order of the inputs."""

    data: list[EmbeddingRow]
    model: str
    usage: Usage
    object: str = "list"


@dataclass(frozen=True)
class ModelCard:
    """One entry of ``GET /v1/models``; what follows ``owned_by`` is our addition.

    :ivar created: when the server loaded it, in seconds since 1970.
    :ivar max_length: longest input in tokens, or None.
    """

    id: str
    created: int
    dim: int
    max_length: int | None
    fingerprint: str
    owned_by: str = "encoder-tools"
    object: str = "model"


@dataclass(frozen=True)
class ModelList:
    """``GET /v1/models``."""

    data: list[ModelCard]
    object: str = "list"


@dataclass(frozen=True)
class SearchPart:
    """Where one part of a hybrid search had a text, and with what score."""

    name: str
    rank: int
    score: float


@dataclass(frozen=True)
class SearchHit:
    """A text that was found.

    :ivar score: the cosine with the query; of a lexical search BM25, of a hybrid one what the fusion made of both.
    :ivar parts: of a hybrid search.
    :ivar highlights: if asked for: where the query's words are, as (start, end) in Unicode characters.
    """

    id: str | int
    score: float
    text: str
    metadata: dict[str, Any]
    parts: list[SearchPart]
    highlights: list[tuple[int, int]]


@dataclass(frozen=True)
class SearchResponse:
    """Hits, best first."""

    hits: list[SearchHit]
    usage: Usage


@dataclass(frozen=True)
class LabelScore:
    """A label and its probability in [0, 1]."""

    label: str | int | float
    probability: float


@dataclass(frozen=True)
class ClassifiedText:
    """The most probable labels of input number ``index``, best first."""

    index: int
    labels: list[LabelScore]


@dataclass(frozen=True)
class ClassifyResponse:
    """One entry per text, in the order of the inputs."""

    data: list[ClassifiedText]
    usage: Usage


@dataclass(frozen=True)
class Health:
    """``GET /health``."""

    status: str = "ok"
