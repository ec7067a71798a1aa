"""The scheduler: who is served next and with whom, and who is sent away. It holds no thread and no clock of its own.

Start-time fair queueing (Goyal, Vin, Cheng 1996) over the padded tokens of batches: each flow has a virtual time that
its batches push on, the flow with the least is served next, and who comes anew begins at the present. A tenant with
many flows has one share for all of them. Batches are filled with lists of nearly the first one's length, as far as
padding costs less than a run of its own.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

from service.batching.cost_model import Costs
from service.batching.jobs import Batch, Flow, Job, QueueFullError

_Turn: TypeAlias = tuple[float, int, Flow]  # virtual time, order of arrival among equals, whose turn it is
_LOOK_AT = 256  # flows that are looked at to fill one batch
_FORGET_FROM = 4096  # flows that are remembered before those that the present has overtaken are forgotten


@dataclass(frozen=True)
class QueueLimits:
    """When work is refused.

    :ivar max_wait: seconds that a request may have to wait for others.
    :ivar max_tokens: tokens in the queue, whosever they are; bounds memory.
    """

    max_wait: float = 10.0
    max_tokens: int = 2_000_000


class _FlowState:
    """One flow's jobs and its virtual time."""

    __slots__ = ("jobs", "tokens", "virtual")

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.tokens = 0  # admitted and not taken
        self.virtual = 0.0


class FairQueue:
    """Jobs in, batches out. Not locked: whoever shares it between threads locks around it.

    :param costs: what batches cost; may change under way.
    :param limits: when to refuse.
    """

    def __init__(self, costs: Costs, limits: QueueLimits | None = None) -> None:
        self.costs, self.limits = costs, limits or QueueLimits()
        self.tokens = 0  # admitted and not taken
        self.running = 0  # padded tokens in batches that were taken and not finished
        self.expired: list[Job] = []
        """Dropped because their deadline passed; whoever owns them wants to know, and clears this."""
        self.flows: dict[Flow, _FlowState] = {}
        self._active: Counter[Hashable] = Counter()  # flows with work, by tenant
        self._turns: tuple[list[_Turn], list[_Turn]] = ([], [])  # small, large
        self._order = count()
        self._now = 0.0  # virtual
        self._forget_from = _FORGET_FROM

    def __len__(self) -> int:
        """How many flows have work that waits."""
        return sum(self._active.values())

    def admit(self, job: Job, now: float) -> None:
        """Queue a job.

        :raises QueueFullError: if it would have to wait too long for others, or the queue holds as much as it may.
        """
        self.check_room(job.flow, job.tokens)
        job.arrived = now
        state = self.flows.get(job.flow)
        if state is None:
            self._forget()
            state = self.flows[job.flow] = _FlowState()
        state.jobs.append(job)
        state.tokens += job.tokens
        self.tokens += job.tokens
        # Start-time fair queueing: a flow that was idle begins at the present virtual time, else it could save up
        # turns while it sent nothing and then keep everyone else waiting.
        if len(state.jobs) == 1:
            state.virtual = max(state.virtual, self._now)
            self._active[job.flow.tenant] += 1
            self._push(job.flow, state)

    def check_room(self, flow: Flow, tokens: int) -> None:
        """Whether a job of so many tokens would be admitted; raises as :meth:`admit` does."""
        if self.tokens and self.tokens + tokens > self.limits.max_tokens:
            raise QueueFullError(
                f"{self.tokens:,} tokens are waiting, at most {self.limits.max_tokens:,} may",
                self.costs.wait(self.tokens) / 2,
            )
        wait = self.wait_for(flow, tokens)
        if wait > self.limits.max_wait:
            raise QueueFullError(
                f"it would wait about {wait:.0f} s for others, at most {self.limits.max_wait:g} s are allowed",
                wait - self.limits.max_wait,
            )

    def wait_for(self, flow: Flow, tokens: int) -> float:
        """Seconds that a job would wait for others: of each no more is served first than its own size."""
        wait = self.costs.wait(self.tokens + self.running)
        if wait <= self.limits.max_wait:
            return wait  # an upper bound, and good enough
        ahead = sum(state.tokens if other == flow else min(state.tokens, tokens) for other, state in self.flows.items())
        return self.costs.wait(ahead + self.running)

    def drop(self, job: Job) -> None:
        """Nobody waits for this job any more: what has not been taken never will be."""
        if not job.dropped:
            self._drop(job)

    def take(self, now: float, budget: int | None = None) -> Batch | None:
        """The next batch, or None if nothing waits.

        :param budget: its padded tokens; None takes that of the costs.
        """
        budget = budget or self.costs.budget
        # Small and large jobs wait in two lines so that a batch holds jobs of like width and pads little; which line is
        # next is decided by virtual time alone, so that neither can starve the other.
        small, large = (self._first(turns, now) for turns in self._turns)
        if small is not None and (large is None or small[0] <= large[0]):
            return self._fill(now, small, self._turns[:1], budget)
        return None if large is None else self._fill(now, large, self._turns[::-1], budget)

    def take_small(self, now: float) -> Batch | None:
        """A batch of small jobs, a quarter of the budget at the most, or None."""
        small = self._first(self._turns[0], now)
        return None if small is None else self._fill(now, small, self._turns[:1], max(1, self.costs.budget // 4))

    def done(self, batch: Batch, seconds: float | None = None) -> list[Job]:
        """The batch has been computed, or has failed; the jobs in it that are finished by that.

        :param seconds: what it took, if it ran alone.
        """
        self.running -= batch.padded
        if seconds is not None:
            self.costs.learn(batch.padded, seconds)
        for job, positions in batch.parts:
            job.running -= len(positions)
        return [job for job, _ in batch.parts if job.finished]

    def _fill(self, now: float, seed: _Turn, kinds: Sequence[list[_Turn]], budget: int) -> Batch:
        """The flow whose turn it is, and with it all that pads little. Large jobs never join small ones: those wait.

        :param kinds: whose flows may be in it, those of ``seed``'s kind first.
        """
        self._now = max(self._now, seed[0])
        length = self.flows[seed[2]].jobs[0].longest
        slack = self.costs.padding_worth
        parts: list[tuple[Job, list[int]]] = []
        looked_at: list[Flow] = []
        width = length
        rows = tokens = 0
        for flow, job in self._in_turn(now, kinds):
            looked_at.append(flow)
            wider = length + slack
            longest = wider if rows and budget // wider > rows else width
            room = budget // longest - rows
            taken = job.take(length - slack, longest, max(room, 0 if rows else 1))
            if taken:
                width = max(width, taken[0][0])
                rows += len(taken)
                tokens += sum(size for size, _ in taken)
                parts.append((job, [position for _, position in taken]))
            if budget // width <= rows or len(looked_at) >= _LOOK_AT:
                break
        for job, positions in parts:
            self._charge(job, positions, width, now)
        for flow in looked_at:
            self._put_back(flow)
        self.running += width * rows
        return Batch(parts, width, rows, tokens)

    def _in_turn(self, now: float, kinds: Sequence[list[_Turn]]) -> Iterator[tuple[Flow, Job]]:
        """Flows in the order of their turn, each taken off."""
        for turns in kinds:
            while (first := self._first(turns, now)) is not None:
                heapq.heappop(turns)
                yield first[2], self.flows[first[2]].jobs[0]

    def _charge(self, job: Job, positions: list[int], width: int, now: float) -> None:
        if job.begun is None:
            job.begun = now
        state = self.flows[job.flow]
        taken = sum(len(job.ids[position]) for position in positions)
        state.tokens -= taken
        self.tokens -= taken
        state.virtual += width * len(positions) * max(1, self._active[job.flow.tenant])

    def _put_back(self, flow: Flow) -> None:
        """Give a flow that was taken off its next turn, if it still has work."""
        state = self.flows[flow]
        while state.jobs and (state.jobs[0].dropped or not state.jobs[0].waiting):
            state.jobs.popleft()
        if state.jobs:
            self._push(flow, state)
        else:
            self._rest(flow, state)

    def _push(self, flow: Flow, state: _FlowState) -> None:
        large = state.jobs[0].tokens > self.costs.small
        heapq.heappush(self._turns[large], (state.virtual, next(self._order), flow))

    def _rest(self, flow: Flow, state: _FlowState) -> None:
        """A flow without work. Once nobody has any, the present has caught up with all that was served."""
        self._active[flow.tenant] -= 1
        if not self._active[flow.tenant]:
            del self._active[flow.tenant]
        if not self._active:
            self._now = max(self._now, state.virtual)

    def _first(self, turns: list[_Turn], now: float) -> _Turn | None:
        """Whose turn it is, past those whose work is no longer wanted."""
        while turns:
            flow = turns[0][2]
            job = self.flows[flow].jobs[0]
            if not job.dropped and job.deadline is not None and job.deadline <= now:
                self._drop(job)
                self.expired.append(job)
            if not job.dropped and job.waiting:
                return turns[0]
            heapq.heappop(turns)
            self._put_back(flow)
        return None

    def _drop(self, job: Job) -> None:
        job.dropped = True
        left = job.left
        self.flows[job.flow].tokens -= left
        self.tokens -= left
        job.waiting.clear()

    def _forget(self) -> None:
        """Flows without work that have had no more than their share are as good as new ones."""
        if len(self.flows) >= self._forget_from:
            past = [flow for flow, state in self.flows.items() if not state.jobs and state.virtual <= self._now]
            for flow in past:
                del self.flows[flow]
            self._forget_from = max(_FORGET_FROM, 2 * len(self.flows))
