"""Jobs: the token lists of one request in the queue, and its flow."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple


class QueueFullError(Exception):
    """The queue takes no more of this client's work for now.

    :ivar retry_after: whole seconds, at least 1, after which the work would probably be taken.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = max(1, math.ceil(retry_after))


class Flow(NamedTuple):
    """Whose work it is.

    :ivar tenant: who shares with the others: a key, or the connection where there are no keys.
    :ivar connection: whose requests of one tenant share what the tenant gets.
    """

    tenant: Hashable
    connection: Hashable = None


class Job:
    """Token lists that belong together, computed in as many batches as they need.

    :param ids: non-empty lists of token ids.
    :param flow: whose they are.
    :param deadline: in the clock's seconds; what has not begun by then is dropped. None for no limit.
    :ivar tokens: of all lists.
    :ivar arrived: when it was admitted.
    :ivar begun: when its first list was taken, or None.
    :ivar running: lists that are being computed.
    """

    __slots__ = ("arrived", "begun", "deadline", "dropped", "flow", "ids", "owner", "running", "tokens", "waiting")

    def __init__(
        self, ids: Sequence[Sequence[int]], flow: Flow, *, deadline: float | None = None, owner: Any = None
    ) -> None:
        self.ids, self.flow, self.deadline, self.owner = ids, flow, deadline, owner
        self.waiting = sorted((len(row), position) for position, row in enumerate(ids))
        self.tokens = sum(length for length, _ in self.waiting)
        self.running = 0
        self.arrived = 0.0
        self.begun: float | None = None
        self.dropped = False

    @property
    def left(self) -> int:
        """Tokens that nobody has taken yet."""
        return sum(length for length, _ in self.waiting)

    @property
    def finished(self) -> bool:
        """Whether every list has been computed, or nobody wants them any more."""
        return not self.running and (self.dropped or not self.waiting)

    @property
    def longest(self) -> int:
        """Tokens of the longest list that waits."""
        return self.waiting[-1][0]

    def take(self, shortest: int, longest: int, most: int) -> list[tuple[int, int]]:
        """Take up to ``most`` lists of ``shortest`` to ``longest`` tokens, the longest first, as (length, place)."""
        end = bisect_right(self.waiting, (longest, len(self.ids)))
        start = max(bisect_right(self.waiting, (shortest - 1, len(self.ids))), end - most)
        taken = self.waiting[start:end]
        del self.waiting[start:end]
        self.running += len(taken)
        return taken[::-1]


class Batch(NamedTuple):
    """Lists for one run of the model.

    :ivar parts: (job, places of its lists) of each request in it.
    :ivar width: tokens of the longest, to which all are padded.
    :ivar rows: how many lists.
    :ivar tokens: without padding.
    """

    parts: list[tuple[Job, list[int]]]
    width: int
    rows: int
    tokens: int

    @property
    def padded(self) -> int:
        """Tokens with padding."""
        return self.width * self.rows
