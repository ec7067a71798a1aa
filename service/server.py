"""Runs the application: an address that is ours before the model is loaded, and an end without a traceback."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable
from ipaddress import ip_address

import uvicorn

from service.app import create_app
from service.state import ServiceState

_GRACE_SECONDS = 10
_BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Reserve an address without answering on it yet: a port in use shows before a model is loaded.

    :param port: 0 takes a free one.
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


def run(state: ServiceState, listener: socket.socket, on_listening: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, give requests under way ten seconds to finish, and return.

    :param on_listening: called when connections are accepted.
    """
    config = uvicorn.Config(
        create_app(state),
        http="httptools",
        loop="asyncio",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again after it has stopped; here stopping is all that was asked for
        signal.signal(number, lambda *_: None)
    listener.listen(_BACKLOG)
    on_listening()
    uvicorn.Server(config).run(sockets=[listener])


def _cannot_bind(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use. Choose another with --port, or 0 for a free one."
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} needs more rights than this process has. Choose one above 1023 with --port."
    return f"Cannot listen on {host} port {port}: {error.strerror}. Choose another --host or --port."
