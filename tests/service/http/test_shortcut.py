"""Endpoints of fixed paths are answered as Starlette's routing would, whatever goes wrong in them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from serving import DebugEncoder
from starlette.applications import Starlette

from encoder_tools.errors import FileCorruptError, InputError, SaveError
from service.batching.engine import DeadlineError, StoppedError
from service.batching.scheduler import QueueFullError
from service.errors import HANDLERS, ApiError
from service.http.endpoints import Context, Endpoint, routes_of
from service.http.middleware import Gate
from service.http.shortcut import Shortcut
from service.routes import ENDPOINTS
from service.schemas.openai import EmbeddingRequest
from service.serving.state import ServiceState

ERRORS: list[Exception] = [
    ApiError(409, "as it is", code="some_code", headers={"retry-after": "3"}),
    InputError("a wrong text"),
    FileCorruptError("a damaged file"),
    SaveError("no room"),
    QueueFullError("full", 2),
    DeadlineError(),
    StoppedError(),
    ZeroDivisionError("unforeseen"),
]


async def fails(context: Context, body: Any) -> Any:
    """Raise what the header asks for."""
    raise ERRORS[int(context.request.headers["x-error"])]


async def echoes(context: Context, body: EmbeddingRequest) -> Any:
    """Give back what was read."""
    return {"model": body.model, "query": dict(context.request.query_params)}


MADE = (
    Endpoint("POST", "/fails", fails, "test"),
    Endpoint("POST", "/echo", echoes, "test", EmbeddingRequest),
    Endpoint("GET", "/echo", echoes, "test"),
    Endpoint("GET", "/by/{name}", fails, "test"),
)


@pytest.fixture(scope="module")
def state() -> ServiceState:
    return ServiceState.of(DebugEncoder())


def answers(state: ServiceState, method: str, path: str, **options: Any) -> list[tuple[Any, ...]]:
    """Status, body and headers, from Starlette's routing and from the shortcut."""

    async def ask(short: bool) -> tuple[Any, ...]:
        app = Starlette(routes=routes_of(MADE), exception_handlers=HANDLERS)
        app.state.service, app.state.endpoints = state, ENDPOINTS
        gate = Gate(Shortcut(app, MADE, HANDLERS) if short else app, state)
        transport = httpx.ASGITransport(gate, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"x-request-id": "one"} | options.get("headers", {})
            answer = await client.request(method, path, **(options | {"headers": headers}))
        rest = {name: value for name, value in answer.headers.items() if name != "server-timing"}
        return answer.status_code, answer.content, rest

    return [asyncio.run(ask(short)) for short in (False, True)]


@pytest.mark.parametrize("number", range(len(ERRORS)), ids=[type(error).__name__ for error in ERRORS])
def test_an_error_is_answered_alike(state: ServiceState, number: int):
    plain, short = answers(state, "POST", "/fails", headers={"x-error": str(number)})
    assert plain == short
    assert plain[0] >= 400


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("POST", "/echo?a=1&b=%20", {"json": {"model": "m", "input": "a"}}),
        ("POST", "/echo", {"content": b"{"}),
        ("POST", "/echo", {"content": b"\xff"}),
        ("POST", "/echo", {"json": {"input": 3}}),
        ("HEAD", "/echo", {}),
        ("DELETE", "/echo", {}),
        ("OPTIONS", "/echo", {}),
        ("POST", "/echo/", {}),
        ("POST", "/nowhere", {}),
        ("GET", "/by/name", {"headers": {"x-error": "0"}}),
    ],
)
def test_all_other_requests_are_answered_alike(state: ServiceState, method: str, path: str, options: dict[str, Any]):
    plain, short = answers(state, method, path, **options)
    assert plain == short


def test_what_nobody_foresaw_is_raised_for_the_servers_log(state: ServiceState):
    async def ask() -> None:
        app = Starlette(routes=routes_of(MADE), exception_handlers=HANDLERS)
        app.state.service, app.state.endpoints = state, ENDPOINTS
        gate = Gate(Shortcut(app, MADE, HANDLERS), state)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://localhost") as client:
            await client.post("/fails", headers={"x-error": str(len(ERRORS) - 1)})

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask())
