"""Work that goes on beside what a test does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def under_load(*works: Callable[[int], object]) -> Iterator[list[Exception]]:
    """Call each of some works again and again, on a thread of its own, with the number of the call.

    One that returns False has ended. What they raise is in the list, and ends them.
    """
    stop, errors = threading.Event(), list[Exception]()

    def again(work: Callable[[int], object]) -> None:
        number = 0
        try:
            while not stop.is_set() and work(number) is not False:
                number += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
            errors.append(error)

    threads = [threading.Thread(target=again, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()
