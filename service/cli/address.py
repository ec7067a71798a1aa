"""What the commands that listen have in common: the address to listen on, and a word of warning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def address_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--host`` and ``--port``."""
    port = click.option(
        "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one."
    )
    host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
    return host(port(command))


def warn_beyond_loopback(host: str) -> None:
    """Say on stderr that anyone may use the service, if others can reach ``host``."""
    from service.server import is_loopback

    if not is_loopback(host):
        click.echo("warning: whoever reaches this address can use it; there is no authentication yet.", err=True)
