"""The threads around the queue, with a model that computes when it is told to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from encoder_tools.protocols import FloatMatrix
from service.batching import Costs, DeadlineError, Engine, Flow, QueueFullError, QueueLimits, StoppedError
from service.batching.cost_model import measure

ALICE, BOB = Flow("alice"), Flow("bob")


class GatedModel:
    """A list's vector is its first id and its length; computes while ``gate`` is open, and fails on id 13."""

    dim = 2

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, check: bool = True) -> FloatMatrix:
        assert not check
        self.batches.append([row[0] for row in ids])
        self.entered.set()
        assert self.gate.wait(10)
        if any(row[0] == 13 for row in ids):
            raise ValueError("unlucky")
        return np.array([[row[0], len(row)] for row in ids], dtype=np.float32)


@pytest.fixture
def model() -> GatedModel:
    return GatedModel()


@pytest.fixture
def engine(model: GatedModel) -> Iterator[Engine]:
    made = Engine(model, QueueLimits(max_wait=5), costs=Costs(launch=0.001, speed=10_000, budget=64))
    yield made
    model.gate.set()
    made.close()


async def held(model: GatedModel, engine: Engine, ids: list[list[int]] | None = None) -> asyncio.Task:
    """Start something that keeps the main lane busy."""
    model.gate.clear()
    model.entered.clear()
    task = asyncio.create_task(engine.compute(ids or [[1] * 64], Flow("holder")))
    await asyncio.to_thread(model.entered.wait, 10)
    return task


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_vectors_come_in_the_order_of_the_lists(engine: Engine):
    ids = [[n + 20] * (1 + 7 * n % 11) for n in range(50)]
    computed = asyncio.run(engine.compute(ids, ALICE))
    assert computed.vectors.tolist() == [[row[0], len(row)] for row in ids]
    assert min(computed.timing) >= 0


def test_requests_that_wait_are_computed_together(model: GatedModel, engine: Engine):
    async def go() -> None:
        first = await held(model, engine)
        rest = [asyncio.create_task(engine.compute([[30 + n] * 20], Flow(n))) for n in range(3)]
        await until(lambda: engine.waiting_tokens == 60)
        model.gate.set()
        await asyncio.gather(first, *rest)

    asyncio.run(go())
    assert sorted(model.batches[1]) == [30, 31, 32]


def test_one_that_fails_fails_alone(model: GatedModel, engine: Engine):
    async def go() -> list[object]:
        first = await held(model, engine)
        rest = [asyncio.create_task(engine.compute([[n] * 20], Flow(n))) for n in (12, 13, 14)]
        await until(lambda: engine.waiting_tokens == 60)
        model.gate.set()
        await first
        return list(await asyncio.gather(*rest, return_exceptions=True))

    good, bad, other = asyncio.run(go())
    assert isinstance(bad, ValueError)
    assert [good.vectors[0, 0], other.vectors[0, 0]] == [12, 14]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="unlucky"):
        asyncio.run(engine.compute([[13]], ALICE))


def test_a_small_request_is_computed_beside_a_large_batch(model: GatedModel, engine: Engine):
    async def go() -> None:
        first = await held(model, engine, [[1] * 64] * 4)
        small = asyncio.create_task(engine.compute([[40, 40]], ALICE))
        await until(lambda: [40] in model.batches)  # while the large batch still runs
        model.gate.set()
        large, computed = await asyncio.gather(first, small)
        assert (len(large.vectors), len(computed.vectors)) == (4, 1)

    asyncio.run(go())


class Watched(GatedModel):
    """Remembers which threads ran it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, check: bool = True) -> FloatMatrix:
        self.threads.append(threading.current_thread())
        return super().encode_tokens(ids, check=check)


@pytest.fixture
def at_once() -> Iterator[tuple[Watched, Engine]]:
    model = Watched()
    made = Engine(model, at_once=True, costs=Costs(launch=0.0001, speed=1e6, budget=64))
    yield model, made
    model.gate.set()
    made.close()


def test_a_lone_small_request_runs_on_the_event_loop(at_once: tuple[Watched, Engine]):
    model, engine = at_once

    async def one_after_the_other() -> None:
        for number in range(20, 25):
            assert (await engine.compute([[number, 1]], ALICE)).vectors.tolist() == [[number, 2]]

    asyncio.run(one_after_the_other())
    assert set(model.threads) == {threading.current_thread()}


def test_large_requests_and_several_at_once_run_on_lanes(at_once: tuple[Watched, Engine]):
    model, engine = at_once

    async def go() -> None:
        await engine.compute([[20] * 2000], ALICE)
        computed = await asyncio.gather(*(engine.compute([[number]], Flow(number)) for number in range(30, 50)))
        assert [row.vectors[0, 0] for row in computed] == list(range(30, 50))

    asyncio.run(go())
    assert threading.current_thread() not in model.threads


def test_a_lone_request_that_fails_leaves_the_engine_at_work(at_once: tuple[Watched, Engine]):
    _, engine = at_once
    for _ in range(3):
        with pytest.raises(ValueError, match="unlucky"):
            asyncio.run(engine.compute([[13]], ALICE))
        assert asyncio.run(engine.compute([[14]], ALICE)).vectors.tolist() == [[14, 1]]
    assert engine.waiting_tokens == engine.queue.running == 0


def test_a_lone_request_that_took_long_is_the_last_to_hold_the_event_loop(at_once: tuple[Watched, Engine]):
    model, engine = at_once

    async def go() -> None:
        model.gate.clear()
        threading.Timer(0.05, model.gate.set).start()
        await engine.compute([[20]], ALICE)
        await engine.compute([[21]], ALICE)

    asyncio.run(go())
    assert model.threads[0] is threading.current_thread()
    assert model.threads[1] is not threading.current_thread()


def test_requests_of_every_size_and_number_are_answered_whoever_runs_them(at_once: tuple[Watched, Engine]):
    _, engine = at_once

    async def client(number: int) -> None:
        for turn in range(30):
            await asyncio.sleep((number * turn) % 3 * 0.0004)
            ids = [[20 + number] * (1 + (number + turn) % 50)] * (1 + turn % 4)
            computed = await engine.compute(ids, Flow(number))
            assert computed.vectors.tolist() == [[row[0], len(row)] for row in ids]

    async def go() -> None:
        await asyncio.gather(*(client(number) for number in range(12)))

    asyncio.run(asyncio.wait_for(go(), 30))
    assert engine.waiting_tokens == engine.queue.running == 0


def test_each_device_has_a_lane_of_its_own(model: GatedModel):
    """All devices are at work at once, each with its own copy, and batches are not smaller for it."""
    devices = [model, GatedModel(), GatedModel()]
    meeting = threading.Barrier(3, timeout=10)
    for device in devices:
        device.encode_tokens = meet(device, meeting)  # type: ignore[method-assign]
    made = Engine(model, express=False, others=devices[1:], costs=Costs(launch=0.001, speed=10_000, budget=64))
    try:
        ids = [[number, *[1] * 31] for number in range(100, 160)]
        vectors = asyncio.run(made.compute(ids, ALICE)).vectors
        assert vectors[:, 0].tolist() == [row[0] for row in ids]
        assert all(device.batches for device in devices)
        assert {len(batch) for device in devices for batch in device.batches} == {2}
    finally:
        made.close()


def meet(device: GatedModel, meeting: threading.Barrier) -> Callable[..., FloatMatrix]:
    run = device.encode_tokens

    def encode_tokens(ids: Sequence[Sequence[int]], *, check: bool = True) -> FloatMatrix:
        if not device.batches:
            meeting.wait()
        return run(ids, check=check)

    return encode_tokens


def test_much_work_is_done_on_several_lanes_at_once(model: GatedModel):
    """Two lanes meet inside the narrow model, which is opened when it is first wanted; the vectors are the same."""
    meeting = threading.Barrier(2, timeout=10)
    opened: list[threading.Thread] = []

    class Narrow(GatedModel):
        met = False

        def encode_tokens(self, ids: Sequence[Sequence[int]], *, check: bool = True) -> FloatMatrix:
            if not self.met:
                meeting.wait()
                self.met = True
            return super().encode_tokens(ids, check=check)

    def narrow() -> Narrow:
        opened.append(threading.current_thread())
        return Narrow()

    made = Engine(model, lanes=2, narrow=narrow, costs=Costs(launch=0.001, speed=10_000, budget=64))
    try:
        assert not opened
        ids = [[number, *[1] * 40] for number in range(100, 400)]
        for _ in range(2):  # the first may be over before it is open
            vectors = asyncio.run(made.compute(ids, ALICE)).vectors
            assert vectors[:, 0].tolist() == [row[0] for row in ids]
        assert not meeting.broken
        assert len(opened) == 1
    finally:
        made.close()


def test_a_narrow_model_that_cannot_be_opened_changes_nothing(model: GatedModel, caplog: pytest.LogCaptureFixture):
    tried = threading.Event()

    def narrow() -> GatedModel:
        tried.set()
        raise MemoryError("no room")

    async def go(engine: Engine) -> None:
        first = await held(model, engine)
        second = asyncio.create_task(engine.compute([[1] * 40] * 50, ALICE))
        await asyncio.to_thread(tried.wait, 10)
        model.gate.set()
        await first
        assert len((await second).vectors) == 50

    made = Engine(model, lanes=2, narrow=narrow, costs=Costs(launch=0.001, speed=10_000, budget=64))
    try:
        asyncio.run(go(made))
        assert made.alive
    finally:
        made.close()
    assert caplog.text.count("no room") == 1


def test_canceled_work_is_never_begun(model: GatedModel, engine: Engine):
    async def go() -> None:
        first = await held(model, engine)
        gone = asyncio.create_task(engine.compute([[50] * 60] * 20, ALICE))
        await until(lambda: engine.waiting_tokens == 1200)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert engine.waiting_tokens == 0
        model.gate.set()
        await first
        await engine.compute([[51]], BOB)

    asyncio.run(go())
    assert all(50 not in batch for batch in model.batches)


def test_a_deadline_that_passes_in_the_queue_is_an_error(model: GatedModel, engine: Engine):
    async def go() -> None:
        first = await held(model, engine)
        late = asyncio.create_task(engine.compute([[60] * 60], ALICE, deadline=time.monotonic() + 0.01))
        await asyncio.sleep(0.05)
        model.gate.set()
        await first
        with pytest.raises(DeadlineError):
            await late

    asyncio.run(go())
    assert all(60 not in batch for batch in model.batches)


def test_a_full_queue_refuses_and_takes_again(model: GatedModel, engine: Engine):
    async def go() -> None:
        first = await held(model, engine)
        waiting = asyncio.create_task(engine.compute([[70] * 64] * 1000, ALICE))
        await until(lambda: engine.waiting_tokens == 64_000)
        with pytest.raises(QueueFullError):
            await engine.compute([[71] * 64] * 1000, BOB)
        engine.check_room(BOB, 5)
        waiting.cancel()
        model.gate.set()
        await first
        await engine.compute([[71] * 64] * 1000, BOB)

    asyncio.run(go())


def test_closing_ends_what_runs_and_fails_what_waits(model: GatedModel, engine: Engine):
    async def go() -> None:
        first = await held(model, engine)
        waiting = asyncio.create_task(engine.compute([[80] * 64] * 3, ALICE))
        await until(lambda: engine.waiting_tokens == 192)
        closing = asyncio.create_task(asyncio.to_thread(engine.close))
        with pytest.raises(StoppedError):
            await waiting
        model.gate.set()
        await closing
        assert (await first).vectors.shape == (1, 2)
        with pytest.raises(StoppedError):
            await engine.compute([[81]], BOB)

    asyncio.run(go())


@pytest.mark.parametrize(("launch", "token"), [(0.01, 0.0001), (0.0001, 0.001), (0.1, 0.1)])
def test_the_budget_is_what_larger_batches_hardly_beat(launch: float, token: float):
    now = 0.0

    def run(ids: Sequence[Sequence[int]]) -> None:
        nonlocal now
        now += launch + token * len(ids) * len(ids[0])

    costs = measure(run, 0, seconds=5.0, clock=lambda: now)
    assert now < 5.0 + 3 * (launch + token * 128)  # a slow model is not kept from starting
    assert costs.launch == pytest.approx(launch, rel=0.2, abs=token)
    assert costs.speed == pytest.approx(1 / token, rel=0.2)
    best = 2048 / (launch + 2048 * token)
    assert token == 0.1 or costs.budget / (launch + costs.budget * token) > 0.9 * best


def test_the_speed_follows_what_is_seen():
    costs = Costs(launch=0.001, speed=10_000, budget=512)
    for _ in range(200):
        costs.learn(512, 0.001 + 512 / 5_000)
        costs.learn(10, 1.0)  # says nothing about the speed
    assert costs.speed == pytest.approx(5_000, rel=0.01)
