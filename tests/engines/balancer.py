"""A small balancer for tests: in front of replicas, with health checks, and retries on another one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.server import bind, url_of

_TRIES, _PAUSE = 40, 0.1


class Balancer:
    """Sends each request to a replica that is ready; one that fails before it answers, or is stopping, is passed over.

    :ivar replicas: their addresses; may be changed meanwhile.
    """

    def __init__(self, replicas: list[str]) -> None:
        self.replicas = replicas
        self.retries = 0
        self._ready: list[str] = []
        self._turn = 0

    async def watch(self, client: httpx.AsyncClient) -> None:
        while True:
            self._ready = [one for one in list(self.replicas) if await self._is_ready(client, one)]
            await asyncio.sleep(_PAUSE)

    async def _is_ready(self, client: httpx.AsyncClient, replica: str) -> bool:
        with suppress(httpx.HTTPError):
            return (await client.get(f"{replica}/ready", timeout=1)).status_code == 200
        return False

    async def forward(self, client: httpx.AsyncClient, request: Request) -> Response:
        body = await request.body()
        for _ in range(_TRIES):
            ready = self._ready
            if ready:
                self._turn += 1
                replica = ready[self._turn % len(ready)]
                with suppress(httpx.TransportError):
                    answer = await client.request(
                        request.method, replica + request.url.path, content=body, timeout=30,
                        headers={"content-type": "application/json"},
                    )  # fmt: skip
                    if answer.status_code != 503:
                        return Response(answer.content, answer.status_code)
            self.retries += 1
            await asyncio.sleep(_PAUSE)
        return Response("no replica is ready", 502)


@contextmanager
def balancing(*replicas: str) -> Iterator[tuple[str, Balancer]]:
    """A balancer on a port of its own, and its address."""
    balancer = Balancer(list(replicas))

    @asynccontextmanager
    async def lifespan(app: Starlette):
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=100)) as client:
            app.state.client = client
            watching = asyncio.create_task(balancer.watch(client))
            yield
            watching.cancel()

    async def handle(request: Request) -> Response:
        return await balancer.forward(request.app.state.client, request)

    app = Starlette(routes=[Route("/{path:path}", handle, methods=["GET", "POST"])], lifespan=lifespan)
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield url_of(listener), balancer
        finally:
            server.should_exit = True
            thread.join()
