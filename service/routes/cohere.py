"""``POST /v2/embed``, in Cohere's shape."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from encoder_tools.protocols import FloatMatrix
from service.http.endpoints import Context, Endpoint
from service.routes.inputs import check_count, prompt_name_of
from service.schemas.cohere import CohereEmbedRequest, CohereEmbedResponse
from service.serving.embedder import EmbedOptions, Side

_SIDES: dict[str, Side | None] = {"START": "left", "END": "right", "NONE": None}


async def embed(context: Context, body: CohereEmbedRequest) -> dict[str, Any]:
    """Embed texts, in the shape of Cohere."""
    state, call, _ = context
    resolved = state.registry.resolve(body.model)
    check_count(body.texts, state.limits.max_items, "texts")
    options = EmbedOptions(
        prompt_name_of(resolved, body.input_type),
        body.truncate != "NONE",
        _SIDES[body.truncate],
        body.output_dimension,
        "texts",
        "Text {}",
    )
    vectors, tokens = await resolved.model.embedder.embed(body.texts, call, options)
    return {
        "id": call.id,
        "embeddings": {kind: _as(kind, vectors) for kind in body.embedding_types or ["float"]},
        "texts": body.texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}},
        "response_type": "embeddings_by_type",
    }


def _as(kind: str, vectors: FloatMatrix) -> Any:
    """Vectors as Cohere writes them: bits are the signs, eight a byte, "binary" as int8 (the byte less 128)."""
    if kind == "base64":
        return [base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode("ascii") for row in vectors]
    if kind in ("binary", "ubinary"):
        packed = np.packbits(vectors > 0, axis=1)
        return packed if kind == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
    return vectors


ENDPOINTS = (Endpoint("POST", "/v2/embed", embed, "Cohere", CohereEmbedRequest, CohereEmbedResponse),)
