"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from service.errors import HANDLERS
from service.gate import Gate
from service.routes import ROUTES
from service.state import ServiceState


def create_app(state: ServiceState) -> Gate:
    """An ASGI application over ``state``, which it closes when it stops."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        state.close()

    app = Starlette(routes=list(ROUTES), exception_handlers=HANDLERS, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect of a POST surprises clients; the 404 names the routes
    app.state.service = state
    return Gate(app, state)
