"""The limit on connections, derived from the limit on open files.

A server that runs out of them cannot open its databases either, and asyncio then reports each connection that waits.
So connections are capped well below the limit, and no more are taken at a time than can be refused again.
"""

from __future__ import annotations

import asyncio
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from service.observability.logs import log_line

resource: Any = import_module("resource") if find_spec("resource") else None  # Windows has no such limits

_WANTED = 16_384  # open files; the soft limit is raised to this where that is allowed
_MOST, _BACKLOG = 100_000, 2048
_KEPT, _KEPT_SHARE = 16, 0.1  # files for databases and the like, beside connections
_EVERY = 1.0  # seconds between two lines of one kind
_USED = 32  # files that are open, where nobody can count them


class Room(NamedTuple):
    """How many connections may be open, and how many are accepted at a time."""

    connections: int
    backlog: int

    @classmethod
    def here(cls) -> Room:
        """By the limit of this process, raised as far as it may be, and what is open already."""
        limit = _raised_limit()
        spare = limit - _open_files() - max(_KEPT, int(_KEPT_SHARE * limit))
        backlog = max(1, min(_BACKLOG, spare // 4))
        return cls(max(1, spare - backlog), backlog)


class LoopErrors:
    """An exception handler of an event loop that writes at most one line per second on what recurs."""

    def __init__(self) -> None:
        self._last, self._held = 0.0, 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Write a line, or count it for the next one."""
        error = context.get("exception")
        if not isinstance(error, OSError):
            loop.default_exception_handler(context)
            return
        now = time.monotonic()
        if now - self._last < _EVERY:
            self._held += 1
            return
        log_line(event="loop", message=context.get("message"), failed=str(error), repeated=self._held)
        self._last, self._held = now, 0


def _raised_limit() -> int:
    if resource is None:
        return 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    target = _WANTED if hard == unlimited else min(_WANTED, hard)
    if soft != unlimited and soft < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
        except (OSError, ValueError):  # macOS knows a limit of its own
            pass
    return _MOST if soft == unlimited else min(int(soft), _MOST)


def _open_files() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return _USED
