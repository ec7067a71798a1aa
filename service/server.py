"""The server: binds its address before models are loaded, and shuts down gracefully."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from types import FrameType

import uvicorn

from encoder_tools.errors import EncoderToolsError
from service.app import create_app
from service.http.connection_limit import LoopErrors, Room
from service.http.middleware import Observer
from service.http.protocol import Connection
from service.observability.logs import log_line
from service.serving.state import ServiceState

_LAST_SECONDS = 2  # for the answers that say that the server stopped
_IDLE_SECONDS = 30
_TICKS_PER_SECOND = 10


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Reserve an address without answering on it yet: a port in use shows before a model is loaded.

    :param port: 0 takes a free one.
    :param shared: with other processes of the same user that say so too; the kernel hands connections out.
    :raises OSError: if the address cannot be had; the message says what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"{host!r} is not an address of this machine ({error.strerror}).") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, _cannot_bind(host, port, error)) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """The address as a client on this machine would write it."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether the address can be reached from this machine only."""
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def run(
    state: ServiceState,
    listener: socket.socket,
    on_listening: Callable[[], None],
    *,
    drain_seconds: float = 30.0,
    observers: Sequence[Observer] = (),
) -> None:
    """Serve until SIGINT or SIGTERM, finish what has been accepted, and return.

    :param on_listening: called when connections are accepted.
    :param drain_seconds: how long requests under way may take to finish; what has not by then is answered with 503. A
        second signal ends this at once.
    :param observers: told of each request that is over.
    """
    if is_loopback(listener):
        state.access = replace(state.access, hosts=state.access.hosts | {"localhost"})
    elif state.access.hosts:
        state.access = replace(state.access, hosts=frozenset())
    room = Room.here()
    Connection.max_connections = min(Connection.max_connections, room.connections)
    config = uvicorn.Config(
        create_app(state, observers),
        http=Connection,
        loop="asyncio",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_SECONDS,
        timeout_keep_alive=_IDLE_SECONDS,
        backlog=room.backlog,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again after it has stopped; here stopping is all that was asked for
        signal.signal(number, lambda *_: None)
    listener.listen(room.backlog)
    on_listening()
    _Server(config, state, drain_seconds).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Goes on listening while it finishes what it has accepted, so that who asks is told and not refused."""

    def __init__(self, config: uvicorn.Config, state: ServiceState, drain_seconds: float) -> None:
        super().__init__(config)
        self._state, self._drain_seconds = state, drain_seconds
        self._stop_at: float | None = None
        self._reload = False
        self._reloading: asyncio.Task[None] | None = None
        with suppress(AttributeError, ValueError):  # no such signal, or not the main thread
            signal.signal(signal.SIGHUP, self._on_hangup)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept; what asyncio says of connections that it cannot accept becomes one line per second."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first begins the end, the second is it."""
        if self._state.draining:
            super().handle_exit(sig, frame)
        self._state.draining = True

    def _on_hangup(self, *_: object) -> None:
        self._reload = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; true ends the server."""
        if self._reload and (self._reloading is None or self._reloading.done()):
            self._reload = False
            self._reloading = asyncio.create_task(self._open_again())
        if counter % _TICKS_PER_SECOND == 0 and self._state.each_second is not None:
            self._state.each_second()
        if self._state.draining and not self.should_exit:
            self._stop_at = self._stop_at or time.monotonic() + self._drain_seconds
            if not self._state.under_way or time.monotonic() >= self._stop_at:
                self._state.stop()
                self.should_exit = True
        return await super().on_tick(counter)

    async def _open_again(self) -> None:
        """What a signal asks for has nobody to answer to but the log."""
        if self._state.reload is None:
            return
        try:
            parts = await self._state.reload()
        except (EncoderToolsError, OSError) as error:
            log_line(event="reload", failed=str(error))
        else:
            log_line(event="reload", heads=list(parts.heads), collections=list(parts.collections))


def _cannot_bind(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use. Choose another with --port, or 0 for a free one."
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} needs more rights than this process has. Choose one above 1023 with --port."
    return f"Cannot listen on {host} port {port}: {error.strerror}. Choose another --host or --port."
