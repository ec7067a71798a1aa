"""The HTTP application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from service.errors import HANDLERS
from service.http.endpoints import routes_of
from service.http.middleware import Gate, Observer
from service.http.shortcut import Shortcut
from service.routes import ENDPOINTS
from service.serving.state import ServiceState


def create_app(state: ServiceState, observers: Sequence[Observer] = ()) -> Gate:
    """An ASGI application over ``state``, which it closes when it stops.

    :param observers: told of each request that is over: a log, traces.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        state.close()

    app = Starlette(routes=routes_of(ENDPOINTS), exception_handlers=HANDLERS, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect of a POST surprises clients; the 404 names the routes
    app.state.service, app.state.endpoints = state, ENDPOINTS
    state.metrics.watch_requests(lambda: state.under_way)
    if state.access.origins:  # by default no page of another site may read anything
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(state.access.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["retry-after", "server-timing", "x-request-id", "x-truncated-inputs"],
        )
        return Gate(app, state, observers)
    return Gate(Shortcut(app, ENDPOINTS, HANDLERS), state, observers)
