"""``POST /classify``: the most probable labels of texts."""

from __future__ import annotations

from starlette.requests import Request

from heads import FittedHead
from service.bodies import read_body
from service.calls import call_of
from service.errors import ApiError
from service.responses import JsonResponse
from service.routes.forms import check_count
from service.schemas import ClassifiedText, ClassifyRequest, ClassifyResponse, LabelScore, Usage
from service.state import ServiceState, state_of


async def classify(request: Request) -> JsonResponse:
    """Classify texts."""
    state = state_of(request)
    head = _head_of(state)
    body = await read_body(request, ClassifyRequest, state.limits.max_body_bytes)
    texts = [body.input] if isinstance(body.input, str) else body.input
    check_count(texts, state.limits.max_items)
    vectors, tokens = await state.embedder.embed(texts, call_of(request), truncate=bool(body.truncate))
    best = await state.worker.run(head.top, vectors, body.top)
    data = [ClassifiedText(index, [LabelScore(*entry) for entry in entries]) for index, entries in enumerate(best)]
    return JsonResponse(ClassifyResponse(data, Usage(tokens, tokens)))


def _head_of(state: ServiceState) -> FittedHead:
    if state.head is None:
        raise ApiError(
            404,
            "This server has no classifier head. Start it with: encoder-tools serve --head FOLDER",
            code="head_not_found",
        )
    return state.head
