"""Calls that are made again while a server is away."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from encoder_tools.errors import UnavailableError

T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds


def retried(
    call: Callable[[], T],
    timeout: float,
    explained: Callable[[UnavailableError], UnavailableError] = lambda error: error,
) -> T:
    """What a call gives; it is made again, with pauses, while it raises :class:`UnavailableError`.

    A write may have been done before the connection broke: to do it again must change nothing.

    :param timeout: seconds after which the error is raised.
    :param explained: says more of it then.
    """
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        try:
            return call()
        except UnavailableError as error:
            if time.monotonic() + pause > deadline:
                raise explained(error) from error
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that clients do not come back together
        pause = min(2 * pause, _LONGEST_PAUSE)
