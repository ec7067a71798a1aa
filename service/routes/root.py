"""The server about itself: ``/``, ``/health``, ``/ready``, ``/metrics``, ``/openapi.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

import encoder_tools
from service.errors import ApiError
from service.http.endpoints import Context, Endpoint
from service.http.openapi import Bounds, document
from service.observability import metrics
from service.page import page_file
from service.responses import JsonResponse
from service.schemas.common import Ready, Status


@dataclass(frozen=True)
class Index:
    """What this server is and what it answers."""

    name: str
    version: str
    models: list[str]
    collections: list[str]
    heads: list[str]
    routes: list[str]
    unavailable: dict[str, str]


async def index(context: Context, body: None) -> Index | Response:
    """Name what is served, and the routes; to a browser, the page."""
    if "text/html" in context.request.headers.get("accept", ""):
        page = page_file("index.html")
        assert page is not None  # noqa: S101 - it ships with this package
        return page
    return await served(context, body)


async def page(context: Context, _: None) -> Response:
    """Give a file of the page."""
    file = page_file(context.request.path_params["file"])
    if file is None:
        raise ApiError(404, "The page has no such file.", code="route_not_found")
    return file


async def served(context: Context, _: None) -> Index:
    """Name what is served, and the routes."""
    registry = context.state.registry
    names = [name for model in registry.models.values() for name in model.names]
    routes = [f"{endpoint.method} {endpoint.path}" for endpoint in context.request.app.state.endpoints]
    heads, collections = list(registry.heads), list(registry.collections)
    unavailable = dict(registry.unavailable)
    return Index("encoder-tools", encoder_tools.__version__, names, collections, heads, routes, unavailable)


async def health(_: Context, __: None) -> Status:
    """Say that the server is up; it listens only after the models are loaded."""
    return Status("ok")


async def ready(context: Context, _: None) -> Response:
    """Say whether requests are taken: not any more once the server has been told to stop, or a model's thread ended.

    Collections that cannot be served, for instance while their database is away, are named; all else is served.
    """
    if context.state.draining:
        return JsonResponse(Status("draining"), status_code=503, headers={"retry-after": "5"})
    if not all(model.embedder.engine.alive for model in context.state.registry.models.values()):
        return JsonResponse(Status("broken"), status_code=503)
    away = (await context.state.reachability.now()).away
    unavailable = {**context.state.registry.unavailable, **away}
    return JsonResponse(Ready("ready", unavailable) if unavailable else Status("ready"))


async def show_metrics(context: Context, _: None) -> Response:
    """Figures for Prometheus."""
    reached = await context.state.reachability.now()
    context.state.metrics.collections(
        {name: (engine, name not in reached.away) for name, engine in reached.engines.items()}
    )
    text = context.state.metrics_text(context.state.metrics.text())
    return Response(text, headers={"content-type": metrics.CONTENT_TYPE})


async def openapi(context: Context, _: None) -> dict[str, Any]:
    """Describe the routes, as OpenAPI 3.1."""
    state = context.state
    vocab_size = getattr(state.registry.default_model().encoder, "vocab_size", None)
    dim = max(model.encoder.dim for model in state.registry.models.values())
    return document(
        context.request.app.state.endpoints, Bounds(state.native_ids or state.decode_ids is not None, vocab_size, dim)
    )


def _says(path: str, handler: Any, response: Any) -> Endpoint:
    return Endpoint("GET", path, handler, "Server", None, response, missing=False, inference=False)


ENDPOINTS = (
    _says("/", index, Index),
    _says("/v1/served", served, Index),
    Endpoint("GET", "/page/{file}", page, "Server", inference=False),
    _says("/health", health, Status),
    _says("/ready", ready, Status),
    _says("/metrics", show_metrics, None),
    _says("/openapi.json", openapi, dict[str, Any]),
)
