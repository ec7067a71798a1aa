"""A text with the position of each character in its source."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Heading(NamedTuple):
    """A heading: where it is in the text, its level from 1, and its words."""

    start: int
    end: int
    level: int
    title: str


class SourceText(NamedTuple):
    """A text as it is read.

    :ivar headings: in their order.
    :ivar starts: int64, where in the source each character of ``text`` begins, and ``ends`` where it ends; None where
        the text is the source.
    :ivar pages: where each page but the first begins; None for a text without pages.
    """

    text: str
    headings: list[Heading]
    starts: NDArray[np.int64] | None = None
    ends: NDArray[np.int64] | None = None
    pages: list[int] | None = None

    def page(self, position: int) -> int | None:
        """The number of the page, from 1, that a position is on."""
        return None if self.pages is None else bisect_right(self.pages, position) + 1

    def source(self, start: int, end: int) -> tuple[int, int]:
        """Where a span of the text is in the source."""
        if self.starts is None or self.ends is None or start >= end:
            return start, end
        return int(self.starts[start]), int(self.ends[end - 1])
