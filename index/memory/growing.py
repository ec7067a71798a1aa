"""Arrays of rows that grow at the end while searches look at the first ones."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_SPARE = 1.5  # room of a new buffer, in what it holds

T = TypeVar("T", bound=np.generic)


def grown(array: NDArray[T], known: int, count: int) -> NDArray[T]:
    """The same array if it holds ``count`` rows; else a new one with room to spare and the first ``known`` in it.

    What looks at the old one keeps it as it was.
    """
    if count <= len(array):
        return array
    made = np.empty((with_spare(count), *array.shape[1:]), dtype=array.dtype)
    made[:known] = array[:known]
    return made


def with_spare(count: int) -> int:
    """Rows of a buffer that is to hold so many, and some more later."""
    return int(_SPARE * count) + 64
