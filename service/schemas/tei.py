"""The bodies of text-embeddings-inference, https://huggingface.github.io/text-embeddings-inference/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from service.schemas.cohere import Documents
from service.schemas.common import Dimensions, Text, Texts, TokenId

Ids = Annotated[list[TokenId], msgspec.Meta(min_length=1)]


class EmbedRequest(msgspec.Struct, frozen=True):
    """``POST /embed``.

    :ivar inputs: a text, texts, token ids, or lists of token ids.
    :ivar normalize: vectors always have length one here; false is refused.
    :ivar truncate: cut what is too long; None does what the server was started with.
    :ivar truncation_direction: which end is cut off.
    """

    inputs: Text | Annotated[list[Text | TokenId | Ids], msgspec.Meta(min_length=1)]
    normalize: Literal[True] = True
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    prompt_name: str | None = None
    dimensions: Dimensions | None = None


class AnyRerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /rerank``: of text-embeddings-inference with ``texts``, of infinity, Jina and Cohere with ``documents``.

    :ivar raw_scores: scores as the model gives them (of an embedder: cosines) instead of numbers in [0, 1].
    """

    query: Text
    texts: Texts | None = None
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    raw_scores: bool = False
    return_text: bool = False
    documents: Documents | None = None
    model: str | None = None
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool = False


@dataclass(frozen=True)
class Rank:
    """One text of ``/rerank``, best first; ``text`` if it was asked for."""

    index: int
    score: float
    text: str | None = None


Alone = Annotated[list[Text], msgspec.Meta(min_length=1, max_length=1)]


class PredictRequest(msgspec.Struct, frozen=True):
    """``POST /predict``: a text, or a list of texts (each alone or in a list of its own)."""

    inputs: Text | Annotated[list[Text | Alone], msgspec.Meta(min_length=1)]
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    raw_scores: bool = False


@dataclass(frozen=True)
class Prediction:
    """A label and its probability, or its logit where raw scores were asked for."""

    label: str
    score: float


class Sentences(msgspec.Struct, frozen=True):
    """A text, and those it is compared with."""

    source_sentence: Text
    sentences: Texts


class SimilarityParameters(msgspec.Struct, frozen=True):
    """How the texts of ``/similarity`` are embedded."""

    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct, frozen=True):
    """``POST /similarity``."""

    inputs: Sentences
    parameters: SimilarityParameters | None = None


class TokenizeRequest(msgspec.Struct, frozen=True):
    """``POST /tokenize``."""

    inputs: Text | Texts
    add_special_tokens: bool = True
    prompt_name: str | None = None


@dataclass(frozen=True)
class Token:
    """One token; ``start`` and ``stop`` in characters of the text, None for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


IdList = Annotated[list[TokenId | Ids], msgspec.Meta(min_length=1)]


class DecodeRequest(msgspec.Struct, frozen=True):
    """``POST /decode``."""

    ids: Annotated[list[TokenId | Ids], msgspec.Meta(min_length=1)]
    skip_special_tokens: bool = True


@dataclass(frozen=True)
class Info:
    """``GET /info``: what text-embeddings-inference says of itself, and the provider, width and fingerprint."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int | None
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None
    provider: str
    dim: int
    fingerprint: str
