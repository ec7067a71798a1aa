"""Lanes: one batch on all cores while little waits, one per core while much does.

Several batches that keep to a core each get more done than one spread over all of them (a sixth to a third more, on two
cores), because nothing waits for the slowest part of each operator; a single batch is sooner done on all cores. Beside
them an express lane takes small requests while every lane is held: they then share the cores for a moment, which costs
a small request far less than waiting would.
"""

from __future__ import annotations

from service.batching.jobs import Batch, Job
from service.batching.scheduler import FairQueue

MAIN, EXPRESS = 0, -1
_NARROW_BUDGET = 256  # padded tokens of a batch on one core: larger ones are no faster, and hold their lane longer

_TELLING = 2  # budgets without a pause, which say how fast the queue is emptied


class Lanes:
    """Not locked and without a thread, as :class:`FairQueue` is.

    :param queue: where the batches come from.
    :param count: lanes beside the express one; all but :data:`MAIN` are used only for batches of one core.
    :param apart: whether each lane has a device of its own instead, so that none has to give way to another.
    :ivar narrow: whether batches can be run on one core each.
    """

    def __init__(self, queue: FairQueue, count: int, *, apart: bool = False) -> None:
        self.queue, self.count, self._apart = queue, max(1, count), apart
        self.narrow = False
        self._held: set[int] = set()  # lanes that run something
        self._wide = False  # whether the main lane's batch has all cores
        self._since, self._drained = 0.0, 0  # tokens that were done since then, without a pause
        self._paused = True
        self._alone: set[int] = set()  # lanes whose batch says something about the speed

    @property
    def crowded(self) -> bool:
        """Whether more waits than one batch on all cores would take."""
        return self.queue.tokens > self.queue.costs.budget

    @property
    def idle(self) -> bool:
        """Whether nothing runs in any of them."""
        return not self.queue.running

    @property
    def main_is_free(self) -> bool:
        """Whether the main lane runs nothing."""
        return MAIN not in self._held

    def is_narrow(self, lane: int) -> bool:
        """Whether the batch that this lane took is to run on one core."""
        return self.narrow and (lane != MAIN or not self._wide)

    def take(self, lane: int, now: float) -> Batch | None:
        """The next batch for a lane that is free, or None if there is none for it."""
        if lane == EXPRESS:
            return self._take_small(now)
        if lane in self._held:
            return None  # the event loop may run the main lane's batch itself
        # One wide session on all cores answers a few texts soonest; with much waiting, one batch per core gives more
        # texts per second, because padding and small operators waste less. The two must not run at once, or both would
        # wait for cores: so only the main lane decides, when it is free, and the others follow while it is narrow.
        if self._apart:
            self._wide = True
        elif lane == MAIN:
            self._wide = not (self.narrow and (self.crowded or self._held))
        elif self._wide or MAIN not in self._held:
            return None
        costs = self.queue.costs
        share = self._share(lane)
        batch = self.queue.take(now, costs.budget if share == 1 else min(costs.budget, _NARROW_BUDGET))
        if batch is not None:
            if self._paused:
                self._since, self._drained, self._paused = now, 0, False
            self._held.add(lane)
            if share == 1 or len(self._held) == self.count:
                self._alone.add(lane)
        return batch

    def done(self, lane: int, batch: Batch, now: float, seconds: float | None = None) -> list[Job]:
        """A lane's batch has been computed, or has failed; the jobs that are finished by that.

        :param seconds: what it took; None if that says nothing.
        """
        self._drained += batch.tokens
        if self._drained >= _TELLING * self.queue.costs.budget:
            self.queue.costs.follow_drain(self._drained, now - self._since)
            self._since, self._drained = now, 0
        # The cost model learns from a batch only if nothing else ran beside it from beginning to end, or if all lanes
        # were busy all the time: in between, the time says more about the neighbors than about the batch.
        tells = False
        if lane != EXPRESS:
            share = self._share(lane)
            tells = lane in self._alone and (self._apart or len(self._held) == share)
            self._alone.discard(lane)
            self._held.discard(lane)
        self._paused = self._paused or not (self._held or self.queue.tokens)
        return self.queue.done(batch, seconds / share if tells and seconds is not None else None)

    def _share(self, lane: int) -> int:
        """Between how many lanes the cores are divided while this one runs."""
        return 1 if self._apart or (lane == MAIN and self._wide) else self.count

    def _take_small(self, now: float) -> Batch | None:
        """Only while no lane is free."""
        if not self._held or not (self._wide or len(self._held) == self.count):
            return None
        batch = self.queue.take_small(now)
        if batch is not None:
            self._alone.clear()
        return batch
