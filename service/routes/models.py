"""``GET /v1/models`` and ``GET /v1/models/{name}``, as OpenAI has them."""

from __future__ import annotations

from starlette.requests import Request

from service.responses import JsonResponse
from service.schemas import ModelCard, ModelList
from service.state import ServiceState, state_of


async def list_models(request: Request) -> JsonResponse:
    """List the names that the model is served under."""
    state = state_of(request)
    return JsonResponse(ModelList([_card(state, name) for name in state.names]))


async def get_model(request: Request) -> JsonResponse:
    """Describe one of them."""
    state = state_of(request)
    name = request.path_params["name"]
    state.check_model(name)
    return JsonResponse(_card(state, name))


def _card(state: ServiceState, name: str) -> ModelCard:
    encoder = state.encoder
    return ModelCard(name, state.created, encoder.dim, encoder.max_length, encoder.fingerprint)
