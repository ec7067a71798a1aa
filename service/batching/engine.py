"""The engine: threads that run a model, between its fair queue and the event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Lock, Thread, get_native_id
from typing import NamedTuple, Protocol

import numpy as np

from encoder_tools.protocols import FloatMatrix
from service.batching.cost_model import Costs, measure
from service.batching.jobs import Batch, Flow, Job
from service.batching.lanes import EXPRESS, MAIN, Lanes
from service.batching.scheduler import FairQueue, QueueLimits

_log = logging.getLogger(__name__)
_AT_ONCE = 0.002  # seconds that a lone request may hold the event loop
_TOO_LONG = 4 * _AT_ONCE  # one that did all the same is the last, until a lane has been quicker
_NICE = 10  # lanes beside the main one give way to small requests, to the event loop and to reading texts


class Computes(Protocol):
    """What an engine needs of a model."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, check: bool = True) -> FloatMatrix:
        """Vectors of token ids, float32 of shape (len(ids), dim)."""


class DeadlineError(Exception):
    """The deadline of a request passed before all of it had begun."""


class StoppedError(Exception):
    """The engine stopped before the request had been computed."""


class Timing(NamedTuple):
    """Where the time of a request went, in seconds.

    :ivar queue: from its admission to its first batch.
    :ivar inference: from there to its last.
    """

    queue: float
    inference: float


class Computed(NamedTuple):
    """Vectors (n, dim) in the order of the token lists."""

    vectors: FloatMatrix
    timing: Timing


@dataclass(eq=False)
class _Owner:
    """Who waits for a job: a future of an event loop, and where its vectors go."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]
    vectors: FloatMatrix


class Engine:
    """Computes token lists in batches that are filled across requests; see :class:`FairQueue` for whose turn it is.

    On a CPU several threads run the model, as :class:`Lanes` says. On a GPU one does.

    :param model: the model, on all cores.
    :param limits: when to refuse work.
    :param express: whether small requests may run beside a large batch.
    :param at_once: whether a request that is alone and takes less than two milliseconds runs on the event loop's own
        thread. Two threads that hand a request to each other and back cost it more than that.
    :param lanes: how many batches may run at once, each on a core of its own.
    :param narrow: opens the model for that, when it is first wanted; None where it cannot be.
    :param others: the same model on further devices, with a lane for each.
    :param observe: called with each batch and its seconds, on the thread that ran it.
    """

    def __init__(
        self,
        model: Computes,
        limits: QueueLimits | None = None,
        *,
        express: bool = True,
        at_once: bool = False,
        lanes: int = 1,
        narrow: Callable[[], Computes] | None = None,
        others: Sequence[Computes] = (),
        costs: Costs | None = None,
        observe: Callable[[Batch, float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._clock, self._observe = model, clock, observe
        lock = Lock()
        # threads that have nothing to do are not woken: on a virtual machine each costs a tenth of a millisecond
        self._changed, self._beside = Condition(lock), Condition(lock)
        self.costs = costs or measure(lambda ids: model.encode_tokens(ids, check=False), 0)
        self.queue = FairQueue(self.costs, limits)
        self._by_lane = [model, *others]
        self._lanes = Lanes(self.queue, len(self._by_lane) if others else lanes if narrow else 1, apart=bool(others))
        self._open_narrow, self._narrow = None if others else narrow, model
        self._closing = False
        self._at_once, self._lone = at_once, True  # whether the newest batch held one request
        numbers = [*range(self._lanes.count), *([EXPRESS] if express else [])]
        self._threads = [Thread(target=self._work, args=(lane,), name=f"lane {lane}", daemon=True) for lane in numbers]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether its threads run; one that has ended by itself is a fault that only a new start mends."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def waiting_tokens(self) -> int:
        """Tokens in the queue."""
        return self.queue.tokens

    def check_room(self, flow: Flow, tokens: int = 1) -> None:
        """Whether work of this flow would be taken; raises QueueFullError."""
        with self._changed:
            self.queue.check_room(flow, tokens)

    async def compute(self, ids: Sequence[Sequence[int]], flow: Flow, *, deadline: float | None = None) -> Computed:
        """Vectors of checked, non-empty token lists. Cancelling this call takes its lists out of the queue.

        :param deadline: by the engine's clock; what has not begun by then is not computed.
        :raises QueueFullError: if the queue is full.
        :raises DeadlineError: if the deadline passes first.
        :raises StoppedError: if the engine stops first.
        """
        loop = asyncio.get_running_loop()
        vectors = np.empty((len(ids), self._model.dim), dtype=np.float32)
        owner = _Owner(loop, loop.create_future(), vectors)
        job = Job(ids, flow, deadline=deadline, owner=owner)
        with self._changed:
            if self._closing:
                raise StoppedError
            self.queue.admit(job, self._clock())
            at_once = self._at_once and self._lone and self._is_small()
            if not at_once:
                self._wake()
        if at_once:
            loop.call_soon(self._run_here)  # when all that has arrived by now is in the queue
        try:
            await owner.future
        except asyncio.CancelledError:
            with self._changed:
                self.queue.drop(job)
            raise
        begun = job.begun or job.arrived
        return Computed(vectors, Timing(begun - job.arrived, self._clock() - begun))

    def close(self) -> None:
        """Stop after the batches that run; what waits fails with StoppedError."""
        with self._changed:
            self._closing = True
            while (batch := self.queue.take(self._clock())) is not None:
                self._fail(batch, StoppedError())
            self._tell_expired()
            self._changed.notify_all()
            self._beside.notify_all()
        for thread in self._threads:
            thread.join()

    def _is_small(self) -> bool:
        """Whether all that there is to do is one small request."""
        return self._lanes.idle and len(self.queue) == 1 and self.costs.seconds(self.queue.tokens) < _AT_ONCE

    def _run_here(self) -> None:
        """Run what waits on this thread, which is the event loop's, or leave it to the main lane."""
        with self._changed:
            if not self.queue.tokens or self._closing:
                return
            batch = self._lanes.take(MAIN, self._clock()) if self._is_small() else None
            self._tell_expired()
            if batch is None:
                self._wake()
        if batch is not None:
            self._run(MAIN, batch, self._model)

    def _work(self, lane: int) -> None:
        if lane > MAIN:
            _step_back()
        while True:
            with self._changed:
                batch, model = self._next(lane)
                if batch is None and self._closing:
                    return
            if batch is not None:
                self._run(lane, batch, model)
            else:
                self._become_narrow()

    def _next(self, lane: int) -> tuple[Batch | None, Computes]:
        """What a lane is to run, and on which model; None if it is to open the narrow one, or all is over."""
        while not self._closing:
            batch = self._lanes.take(lane, self._clock())
            self._tell_expired()
            if batch is not None:
                if self.queue.tokens:
                    self._wake()
                return batch, self._model_for(lane)
            if lane > MAIN and self._open_narrow is not None and self._lanes.crowded:
                return None, self._model
            (self._changed if lane == MAIN else self._beside).wait()
        return None, self._model

    def _model_for(self, lane: int) -> Computes:
        if self._lanes.is_narrow(lane):
            return self._narrow
        return self._by_lane[lane] if MAIN < lane < len(self._by_lane) else self._model

    def _wake(self) -> None:
        """Wake the main lane, or, while it is at work, those beside it; they take nothing before it does."""
        if self._lanes.main_is_free:
            self._changed.notify()
        else:
            self._beside.notify_all()

    def _become_narrow(self) -> None:
        """Open the model for one core, on a thread that has nothing else to do yet."""
        with self._changed:
            narrow, self._open_narrow = self._open_narrow, None
        if narrow is None:
            return
        try:
            self._narrow = narrow()
        except Exception as error:  # noqa: BLE001 - whatever it is, batches use all cores as before
            _log.warning("One lane per core could not be opened, so batches keep using all cores: %s", error)
            return
        with self._changed:
            self._lanes.narrow = True
            self._wake()

    def _run(self, lane: int, batch: Batch, model: Computes) -> None:
        ids = [job.ids[position] for job, positions in batch.parts for position in positions]
        begun = self._clock()
        try:
            vectors = model.encode_tokens(ids, check=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the requests
            self._run_apart(lane, batch, error)
            return
        seconds = self._clock() - begun
        row = 0
        for job, positions in batch.parts:
            job.owner.vectors[positions] = vectors[row : row + len(positions)]
            row += len(positions)
        with self._changed:
            self._lone = len(batch.parts) == 1 and seconds < _TOO_LONG
            finished = self._done(lane, batch, begun + seconds, seconds)
        _settle(finished)
        if self._observe is not None:
            self._observe(batch, seconds)

    def _run_apart(self, lane: int, batch: Batch, error: Exception) -> None:
        """A batch that failed is run again request by request, so that only the one at fault fails."""
        failures: dict[int, Exception] = {0: error} if len(batch.parts) == 1 else {}
        if not failures:
            for number, (job, positions) in enumerate(batch.parts):
                try:
                    job.owner.vectors[positions] = self._model.encode_tokens(
                        [job.ids[p] for p in positions], check=False
                    )
                except Exception as failure:  # noqa: BLE001 - as above
                    failures[number] = failure
        with self._changed:
            for number in failures:
                self.queue.drop(batch.parts[number][0])
            finished = self._done(lane, batch, self._clock())
        for number, reason in failures.items():
            _settle([batch.parts[number][0]], reason)
        _settle(finished)  # of those that failed this is the second word, which counts for nothing

    def _done(self, lane: int, batch: Batch, now: float, seconds: float | None = None) -> list[Job]:
        finished = self._lanes.done(lane, batch, now, seconds)
        if self.queue.tokens:
            self._wake()  # while the event loop ran a batch itself, the main lane may have found its place taken
        return finished

    def _fail(self, batch: Batch, error: Exception) -> None:
        for job, _ in batch.parts:
            self.queue.drop(job)
            _settle([job], error)
        self.queue.done(batch)

    def _tell_expired(self) -> None:
        for job in self.queue.expired:
            _settle([job], DeadlineError())
        self.queue.expired.clear()


def _step_back() -> None:
    """Let this thread give way to the others, on Linux, where threads have priorities of their own."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)


def _settle(jobs: Iterable[Job], error: Exception | None = None) -> None:
    """Tell the event loops of the jobs' owners, with one wake-up each; a loop that is gone has nobody waiting."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for job in jobs:
        by_loop.setdefault(job.owner.loop, []).append(job.owner.future)

    def settle(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    here = None
    with suppress(RuntimeError):
        here = asyncio.get_running_loop()  # if this is its thread, nobody has to be woken
    for loop, futures in by_loop.items():
        if loop is here:
            settle(futures)
            continue
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, futures)
