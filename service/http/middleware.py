"""The gate that every request passes: an id, a deadline, cancellation for clients that have left, and graceful
shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.batching import Flow
from service.errors import ApiError, answer
from service.request_context import Call, Caller
from service.serving.state import ServiceState

ALWAYS_OPEN = frozenset({"/health", "/ready", "/metrics", "/info"})
MOST_HEADER_BYTES = 64 * 1024
LEAVING = "encoder_tools.leaving"
"""Key of a scope whose server calls what is in its list when the connection is lost; without it a task watches."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TIMEOUTS = ("x-request-timeout", "x-stainless-read-timeout")  # ours; what OpenAI's clients send
_STATUS_LEFT = 499

Observer: TypeAlias = Callable[[Scope, Call, int, float], None]
"""Told of a request that is over: its scope, the call, the status (499: its client has left), the seconds it took."""


class Gate:
    """An ASGI application around another.

    :param app: the application inside.
    :param state: counts what is under way, and knows whether the server drains.
    :param observers: told of each request that is over, in their order.
    """

    def __init__(self, app: ASGIApp, state: ServiceState, observers: Sequence[Observer] = ()) -> None:
        self._app, self._state, self._observers = app, state, tuple(observers)
        self._id_prefix, self._numbers = secrets.token_hex(8), count()  # random bytes for each cost a system call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        call = self._open(scope, headers)
        scope["call"] = call
        answered = _Answered(send, call)
        self._state.enter()
        try:
            self._check(scope, headers, call)
            await self._run(scope, receive, answered)
        except ApiError as refusal:
            await answer(refusal)(scope, receive, answered)
        finally:
            call.release()
            self._state.leave()
            self._close(scope, call, answered)

    def _open(self, scope: Scope, headers: Mapping[str, str]) -> Call:
        given = headers.get("x-request-id", "")
        call_id = given if _ID.fullmatch(given) else f"{self._id_prefix}{next(self._numbers):016x}"
        connection = scope.get("client")
        flow = Flow(connection, connection)
        seconds = min((self._state.limits.request_seconds, *_seconds_of(headers)))
        return Call(call_id, Caller(flow, time.monotonic() + seconds), self._state.ledger)

    def _close(self, scope: Scope, call: Call, answered: _Answered) -> None:
        self._state.metrics.answered(call.route, answered.status, answered.seconds, call.stages, call.tokens)
        for observer in self._observers:
            observer(scope, call, answered.status, answered.seconds)

    def _check(self, scope: Scope, headers: Mapping[str, str], call: Call) -> None:
        if sum([len(name) + len(value) for name, value in scope["headers"]]) > MOST_HEADER_BYTES:
            message = f"The headers are longer than {MOST_HEADER_BYTES} bytes. Send shorter ones."
            raise ApiError(431, message, code="headers_too_large")
        rights = self._state.access.check(scope["method"], scope["path"], headers)
        if rights is not None:
            call.may_write = rights.may_write
            call.caller = Caller(Flow(rights.tenant, call.caller.flow.connection), call.caller.deadline)
        if self._state.draining and scope["path"] not in ALWAYS_OPEN:
            raise ApiError(
                503,
                "This server is about to stop and takes no new requests. Send it to another one, or again later.",
                code="draining",
                kind="server_error",
                headers={"retry-after": "5", "connection": "close"},
            )

    async def _run(self, scope: Scope, receive: Receive, answered: _Answered) -> None:
        """Run the application, but no longer than somebody waits for its answer."""
        task, stopped = asyncio.current_task(), False
        listener = _Listener(receive)

        def stop() -> None:
            nonlocal stopped
            if listener.leave() and task is not None and not answered.begun:
                stopped = True
                task.cancel()

        leaving = scope.get(LEAVING)
        watcher = None if leaving is not None else asyncio.ensure_future(listener.watch(stop))
        if leaving is not None:
            leaving.append(stop)
        try:
            await self._app(scope, listener.receive, answered)
        except asyncio.CancelledError:
            if not stopped or task is None:
                raise
            task.uncancel()
        finally:
            if watcher is not None:
                watcher.cancel()
            if leaving is not None:
                leaving.remove(stop)


class _Listener:
    """Shares ``receive`` between the application, until it has read the body, and whoever watches for the client."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = asyncio.Event()
        self._read = asyncio.Event()

    async def receive(self) -> Message:
        """For the application."""
        if self._read.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone.set()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._read.set()
        return message

    def leave(self) -> bool:
        """The client has left. Whether it had sent its body; else reading the rest says so to the application."""
        self._gone.set()
        return self._read.is_set()

    async def watch(self, stop: Callable[[], None]) -> None:
        """Call ``stop`` when the client has left after it had sent its body."""
        await self._read.wait()
        while not self._gone.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone.set()
        stop()


class _Answered:
    """``send``, which adds the request's id and times to the headers and remembers the status."""

    def __init__(self, send: Send, call: Call) -> None:
        self._send, self._call = send, call
        self._opened = time.monotonic()
        self.status = _STATUS_LEFT

    @property
    def begun(self) -> bool:
        """Whether an answer has been begun."""
        return self.status != _STATUS_LEFT

    @property
    def seconds(self) -> float:
        """Since the request's head."""
        return time.monotonic() - self._opened

    async def __call__(self, message: Message) -> None:
        """Send on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            headers.append((b"x-request-id", self._call.id.encode("ascii")))
            if self._call.truncated:
                headers.append((b"x-truncated-inputs", b"%d" % self._call.truncated))
            stages = [b"%s;dur=%.2f" % (name.encode(), 1000 * took) for name, took in self._call.stages.items()]
            stages.append(b"total;dur=%.2f" % (1000 * self.seconds))
            headers.append((b"server-timing", b", ".join(stages)))
            message["headers"] = headers
        await self._send(message)


def _seconds_of(headers: Mapping[str, str]) -> list[float]:
    """How long the client says that it will wait; what is no positive number of seconds is not heard."""
    given = []
    for name in _TIMEOUTS:
        if name not in headers:
            continue
        with contextlib.suppress(ValueError):
            seconds = float(headers[name])
            if seconds > 0:
                given.append(seconds)
    return given
