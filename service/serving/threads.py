"""Worker threads for tokenizing, searching and classifying, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_QUICK_THREADS = 2
_LONG_THREADS = 1
_REMOTE_THREADS = 16


class Run(Protocol):
    """Runs a call on a thread."""

    async def __call__(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the call gives."""


class Worker:
    """A few threads for short work, and one for long, so that the one never waits for the other.

    Both release Python's lock for most of their time, so the event loop stays free. Those who wait for a database have
    threads of their own: while it is away, all else goes on.
    """

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, thread_name_prefix="quick")
        self._long = ThreadPoolExecutor(_LONG_THREADS, thread_name_prefix="long")
        self._remote = ThreadPoolExecutor(_REMOTE_THREADS, thread_name_prefix="remote")

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``call``, which takes milliseconds, on a thread."""
        return await _run(self._quick, call, *args, **kwargs)

    async def run_long(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``call``, which may take longer, after what was submitted before it."""
        return await _run(self._long, call, *args, **kwargs)

    async def run_remote(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``call``, which waits for a database, on a thread."""
        return await _run(self._remote, call, *args, **kwargs)

    def runner(self, *, remote: bool, long: bool) -> Run:
        """What runs work on a collection.

        :param remote: whether a database holds it.
        :param long: whether the work may take longer than milliseconds.
        """
        if remote:
            return self.run_remote
        return self.run_long if long else self.run

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        for pool in (self._quick, self._long, self._remote):
            pool.shutdown(wait=True, cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: call(*args, **kwargs))
