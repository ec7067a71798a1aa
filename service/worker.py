"""Threads for the work that must not run in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_HELPER_THREADS = 2


class Worker:
    """One thread that runs the model and a few that tokenise and search, so that these overlap.

    The model gets a single thread because ONNX Runtime already uses every core for one batch: two at once would only
    share them. Both kinds of work release Python's lock, so the event loop stays free.
    """

    def __init__(self) -> None:
        self._inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._helpers = ThreadPoolExecutor(_HELPER_THREADS, thread_name_prefix="helper")

    async def infer(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``call`` on the inference thread, after what was submitted before it."""
        return await _run(self._inference, call, *args, **kwargs)

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``call``, anything but the model, on another thread."""
        return await _run(self._helpers, call, *args, **kwargs)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        for pool in (self._helpers, self._inference):
            pool.shutdown(wait=True, cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: call(*args, **kwargs))
