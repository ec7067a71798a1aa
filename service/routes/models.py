"""``GET /v1/models`` and ``GET /v1/models/{name}``, as OpenAI has them."""

from __future__ import annotations

from service.http.endpoints import Context, Endpoint
from service.schemas.openai import ModelCard, ModelList
from service.serving.registry import ROLES, ServedModel


async def list_models(context: Context, _: None) -> ModelList:
    """List the names that the models are served under."""
    models = context.state.registry.models.values()
    return ModelList([await _card(context, model, name) for model in models for name in _names(model)])


async def get_model(context: Context, _: None) -> ModelCard:
    """Describe one of them."""
    name = context.request.path_params["name"]
    return await _card(context, context.state.registry.resolve(name).model, name)


def _names(model: ServedModel) -> list[str]:
    """Its names, and those that ask for a prompt where that makes a difference."""
    roles = [role for role in ROLES if model.encoder.prompts.get(role)]
    return [*model.names, *(f"{model.name}:{role}" for role in roles)]


async def _card(context: Context, model: ServedModel, name: str) -> ModelCard:
    encoder = model.encoder
    return ModelCard(
        name,
        model.created,
        encoder.dim,
        encoder.max_length,
        encoder.fingerprint,
        model.name,
        dict(encoder.prompts),
        str(getattr(encoder, "provider", "cpu")),
        dict(getattr(encoder, "parity", {})),
        await context.state.worker.run_long(lambda: model.quality),
    )


ENDPOINTS = (
    Endpoint("GET", "/v1/models", list_models, "OpenAI", response=ModelList, missing=False, inference=False),
    Endpoint("GET", "/v1/models/{name:path}", get_model, "OpenAI", response=ModelCard, inference=False),
)
