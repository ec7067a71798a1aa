"""The context of a request: caller, deadline, bytes held, and time by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.requests import Request

from service.batching import Flow
from service.errors import ApiError

ANYONE = Flow("anyone")


class Caller(NamedTuple):
    """For whom something is computed.

    :ivar flow: shares the queue with the others.
    :ivar deadline: by ``time.monotonic``; None for no limit.
    """

    flow: Flow = ANYONE
    deadline: float | None = None


class ByteLedger:
    """How many bytes of bodies all requests together hold; used from the event loop alone.

    :param limit: most bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0

    def take(self, count: int) -> None:
        """Count ``count`` bytes more.

        :raises ApiError: 429 if that is more than the limit.
        """
        if self.held + count > self.limit:
            raise ApiError(
                429,
                f"The server holds {self.held:,} bytes of requests already, at most {self.limit:,} are allowed. "
                "Send it again later, or in smaller parts.",
                code="server_full",
                kind="rate_limit_error",
                headers={"retry-after": "1"},
            )
        self.held += count

    def give_back(self, count: int) -> None:
        """These bytes are no longer held."""
        self.held -= count


@dataclass
class Call:
    """A request under way.

    :ivar id: what logs and the response call it.
    :ivar caller: whose it is.
    :ivar ledger: where the bytes of its body are counted.
    :ivar held: how many of them.
    :ivar stages: seconds by stage ("tokenize", "queue", "inference", ...).
    :ivar tokens: that the model reads for it.
    :ivar truncated: inputs that were cut.
    :ivar route: the path of the route that answers it, with its parameters' names.
    :ivar may_write: whether its key may change something.
    :ivar trace_id: the trace that its span belongs to, where spans are made.
    """

    id: str
    caller: Caller
    ledger: ByteLedger
    held: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    tokens: int = 0
    truncated: int = 0
    route: str = "none"
    may_write: bool = True
    trace_id: str = ""

    def hold(self, count: int) -> None:
        """Count bytes of the body as they arrive; raises as :meth:`ByteLedger.take` does."""
        self.ledger.take(count)
        self.held += count

    def release(self) -> None:
        """The request is over."""
        self.ledger.give_back(self.held)
        self.held = 0

    def spent(self, stage: str, seconds: float) -> None:
        """Add to the time of a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.spent(stage, time.monotonic() - begun)


def call_of(request: Request) -> Call:
    """The call that the gate opened for a request."""
    call: Any = request.scope["call"]
    assert isinstance(call, Call)  # noqa: S101 - every request comes through the gate
    return call
