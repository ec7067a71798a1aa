"""Endpoints as data, from which the application and its OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.errors import ApiError
from service.http.request_body import read_body
from service.request_context import Call, call_of
from service.responses import JsonResponse
from service.serving.state import ServiceState, state_of


class Context(NamedTuple):
    """What a handler works with."""

    state: ServiceState
    call: Call
    request: Request


Handler: TypeAlias = Callable[[Context, Any], Awaitable[Any]]
"""Takes the context and the decoded body (None without one); gives what is written as JSON, or a response."""


@dataclass(frozen=True)
class Endpoint:
    """A route.

    :ivar body: the struct of its JSON body, or None.
    :ivar response: the type of what it answers with; None for what is no JSON.
    :ivar status: of a good answer.
    :ivar missing: whether something that it names may not be there (404).
    :ivar writes: whether it changes something, which wants a key that may.
    :ivar inference: whether it asks a model, which may be too busy.
    :ivar query: parameters of its query, texts that may be left out.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    body: Any = None
    response: Any = None
    status: int = 200
    missing: bool = True
    writes: bool = False
    inference: bool = True
    query: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").partition("\n")[0]

    async def run(self, request: Request) -> Response:
        """Answer a request."""
        context = Context(state_of(request), call_of(request), request)
        context.call.route = self.path
        if self.writes and not context.call.may_write:
            raise ApiError(403, "This key may read, not write. Use one that may.", code="read_only_key")
        body = None
        if self.body is not None:
            body = await read_body(request, self.body, context.state.limits.max_body_bytes)
        answer = await self.handler(context, body)
        return answer if isinstance(answer, Response) else JsonResponse(answer, status_code=self.status)


def routes_of(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Routes for Starlette, one a path, so that a method that is not allowed is told all that are."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [Route(path, _dispatch(methods), methods=list(methods)) for path, methods in by_path.items()]


def _dispatch(methods: Mapping[str, Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    async def run(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method].run(request)

    return run
