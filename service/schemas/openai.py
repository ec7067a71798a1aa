"""OpenAI's bodies, https://platform.openai.com/docs/api-reference/embeddings/create."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from service.schemas.common import Dimensions, Text, TokenId, Usage, Vector

Ids = Annotated[list[TokenId], msgspec.Meta(min_length=1)]


class EmbeddingRequest(msgspec.Struct, frozen=True):
    """``POST /v1/embeddings``.

    :ivar input: a text, a list of texts, a list of token ids, or a list of lists of token ids.
    :ivar model: a name that the server serves; "name:query" and "name:document" ask for that prompt.
    :ivar encoding_format: "float" (default) or "base64" (little-endian float32).
    :ivar dimensions: width to cut the vectors to; they are normalized again.
    :ivar truncate: our addition: cut inputs over the model's maximum length instead of refusing them.
    :ivar prompt_name: our addition: the model's prompt to put before each text; ``input_type`` and ``task`` are other
        servers' words for it.
    """

    input: Text | Annotated[list[Text | TokenId | Ids], msgspec.Meta(min_length=1)]
    model: str
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Dimensions | None = None
    truncate: bool | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class EmbeddingRow:
    """One vector: floats of shape (dim,), or their bytes in base64."""

    embedding: Vector | str
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
    :ivar root: the model's own name, where ``id`` is another one of its names.
    :ivar prompts: prompt texts by name.
    :ivar provider: what it runs on.
    :ivar quality: the first table of figures in the model's card, its head first; empty if there is none.
    :ivar parity: how closely the exported graph follows the original, by figure; empty if that is not known.
    """

    id: str
    created: int
    dim: int
    max_length: int | None
    fingerprint: str
    root: str
    prompts: dict[str, str]
    provider: str
    parity: dict[str, float]
    quality: list[list[str]]
    owned_by: str = "encoder-tools"
    object: str = "model"


@dataclass(frozen=True)
class ModelList:
    """``GET /v1/models``."""

    data: list[ModelCard]
    object: str = "list"
