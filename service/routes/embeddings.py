"""``POST /v1/embeddings``, in OpenAI's shape."""

from __future__ import annotations

import asyncio
import base64

from service.http.endpoints import Context, Endpoint
from service.responses import JsonResponse
from service.routes.inputs import embed_input, prompt_name_of
from service.schemas.common import Usage
from service.schemas.openai import EmbeddingRequest, EmbeddingResponse, EmbeddingRow
from service.serving.embedder import EmbedOptions

_ROWS_AT_ONCE = 64  # about a millisecond of writing: others have their turn in between


async def create_embeddings(context: Context, body: EmbeddingRequest) -> JsonResponse:
    """Embed texts or token ids."""
    state = context.state
    resolved = state.registry.resolve(body.model)
    options = EmbedOptions(
        prompt_name_of(resolved, body.prompt_name, body.input_type, body.task),
        state.truncates(body.truncate),
        dim=body.dimensions,
    )
    vectors, tokens = await embed_input(resolved, body.input, context, options)
    rows = [EmbeddingRow(row, index) for index, row in enumerate(vectors)]
    if body.encoding_format == "base64":
        little_endian = vectors.astype("<f4", copy=False)
        texts = [base64.b64encode(row.tobytes()).decode("ascii") for row in little_endian]
        rows = [EmbeddingRow(text, index) for index, text in enumerate(texts)]
    if len(rows) <= _ROWS_AT_ONCE:
        return JsonResponse(EmbeddingResponse(rows, body.model, Usage(tokens, tokens)))
    return await _written_in_parts(rows, body.model, tokens)


async def _written_in_parts(rows: list[EmbeddingRow], model: str, tokens: int) -> JsonResponse:
    parts = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        parts.append(JsonResponse.dumps(rows[start : start + _ROWS_AT_ONCE])[1:-1])
        await asyncio.sleep(0)
    frame = JsonResponse.dumps(EmbeddingResponse([], model, Usage(tokens, tokens)))
    return JsonResponse.of(frame.replace(b'"data":[]', b'"data":[' + b",".join(parts) + b"]", 1))


ENDPOINTS = tuple(
    Endpoint("POST", path, create_embeddings, "OpenAI", EmbeddingRequest, EmbeddingResponse)
    for path in ("/v1/embeddings", "/embeddings")
)
