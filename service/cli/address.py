"""What the commands that listen have in common: the address to listen on, and a word of warning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import socket


def address_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--host`` and ``--port``."""
    port = click.option(
        "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one."
    )
    host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
    return host(port(command))


def warn_beyond_loopback(listener: socket.socket) -> None:
    """Say on stderr that anyone may use the service, if other machines can reach it."""
    from service.server import is_loopback

    if not is_loopback(listener):
        click.echo("warning: whoever reaches this address can use it; there is no authentication yet.", err=True)
