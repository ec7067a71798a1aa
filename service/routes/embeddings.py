"""``POST /v1/embeddings``, in OpenAI's shape."""

from __future__ import annotations

import base64

from starlette.requests import Request

from encoder_tools.protocols import FloatMatrix
from service.bodies import read_body
from service.calls import Call, call_of
from service.embedder import Embedded
from service.responses import JsonResponse
from service.routes.forms import check_count, texts_of, token_lists_of
from service.schemas import EmbeddingRequest, EmbeddingResponse, EmbeddingRow, Usage
from service.state import ServiceState, state_of


async def create_embeddings(request: Request) -> JsonResponse:
    """Embed texts or token ids."""
    state = state_of(request)
    body = await read_body(request, EmbeddingRequest, state.limits.max_body_bytes)
    state.check_model(body.model)
    vectors, tokens = await _embed(state, body, call_of(request))
    rows = _base64_rows(vectors) if body.encoding_format == "base64" else _float_rows(vectors)
    return JsonResponse(EmbeddingResponse(rows, body.model, Usage(tokens, tokens)))


async def _embed(state: ServiceState, body: EmbeddingRequest, call: Call) -> Embedded:
    texts = texts_of(body.input)
    if texts is not None:
        check_count(texts, state.limits.max_items)
        return await state.embedder.embed(texts, call, truncate=bool(body.truncate), dim=body.dimensions)
    ids = token_lists_of(body.input)
    check_count(ids, state.limits.max_items)
    return await state.embedder.embed_tokens(ids, call, dim=body.dimensions)


def _float_rows(vectors: FloatMatrix) -> list[EmbeddingRow]:
    return [EmbeddingRow(row, index) for index, row in enumerate(vectors)]


def _base64_rows(vectors: FloatMatrix) -> list[EmbeddingRow]:
    little_endian = vectors.astype("<f4", copy=False)
    return [EmbeddingRow(base64.b64encode(row.tobytes()).decode("ascii"), i) for i, row in enumerate(little_endian)]
