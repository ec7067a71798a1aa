"""``GET /`` and ``GET /health``."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

import encoder_tools
from service.responses import JsonResponse
from service.schemas import Health
from service.state import state_of


@dataclass(frozen=True)
class Index:
    """What this server is and what it answers."""

    name: str
    version: str
    models: tuple[str, ...]
    routes: list[str]


async def index(request: Request) -> JsonResponse:
    """Name the models and the routes."""
    routes = [
        f"{method} {route.path}"
        for route in request.app.routes
        if isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]
    return JsonResponse(Index("encoder-tools", encoder_tools.__version__, state_of(request).names, routes))


async def health(_: Request) -> JsonResponse:
    """Say that the server is up; it listens only after the model is loaded."""
    return JsonResponse(Health())


async def ready(request: Request) -> JsonResponse:
    """Say whether requests are taken: not any more once the server has been told to stop."""
    if state_of(request).draining:
        return JsonResponse(Health("draining"), status_code=503, headers={"retry-after": "5"})
    return JsonResponse(Health("ready"))
