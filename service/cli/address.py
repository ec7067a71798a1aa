"""Options of the commands that listen: the address, and who may call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def address_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--host`` and ``--port``."""
    port = click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8080,
        show_default=True,
        help="Port to listen on; 0 takes a free one.",
    )
    host = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
    return host(port(command))


def key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--api-key``, ``--read-key``, ``--no-auth``, ``--allow-host`` and ``--allow-origin``."""
    write = click.option(
        "--api-key",
        multiple=True,
        envvar="ENCODER_TOOLS_API_KEY",
        help="Key that requests must send; repeat it for several. Safer in ENCODER_TOOLS_API_KEY: flags are visible.",
    )
    read = click.option(
        "--read-key", multiple=True, envvar="ENCODER_TOOLS_READ_KEY", help="Key that may read, and change nothing."
    )
    none = click.option("--no-auth", is_flag=True, help="Listen beyond this machine without any key.")
    host = click.option(
        "--allow-host",
        multiple=True,
        help="Another host name that requests may be for, where it listens on this machine only.",
    )
    origin = click.option(
        "--allow-origin", multiple=True, help="A site whose pages may call this server, such as https://example.org."
    )
    return write(read(none(host(origin(command)))))
