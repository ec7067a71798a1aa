"""Endpoints of fixed paths, answered without the layers of routing that a path with parameters needs.

A short text costs little more to embed than Starlette's routing and its two layers for exceptions cost to pass.
What they do for other requests, :class:`Shortcut` does for these: the nearest handler answers an exception, and what
nobody foresaw is answered and then raised, for the server's log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.http.endpoints import Endpoint

ErrorHandler = Callable[[Request, Exception], Response]


class Shortcut:
    """An ASGI application around another.

    :param app: answers everything else, also other methods of the same paths.
    :param endpoints: those whose paths have parameters are left to ``app``.
    :param handlers: by class of exception; ``Exception`` must be among them.
    """

    def __init__(self, app: Starlette, endpoints: Iterable[Endpoint], handlers: Mapping[Any, ErrorHandler]) -> None:
        self._app, self._handlers = app, handlers
        self._endpoints = {(each.method, each.path): each for each in endpoints if "{" not in each.path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        endpoint = self._endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        request = Request(scope, receive, send)
        try:
            response = await endpoint.run(request)
        except Exception as error:
            handler = next(self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers)
            await handler(request, error)(scope, receive, send)
            if handler is self._handlers[Exception]:
                raise
            return
        await response(scope, receive, send)
