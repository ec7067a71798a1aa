"""Which batch runs where: pure, without threads."""

from __future__ import annotations

import pytest

from service.batching import Batch, Costs, FairQueue, Flow, Job
from service.batching.lanes import EXPRESS, MAIN, Lanes

SIDE = 1


def lanes(*, narrow: bool = True, budget: int = 256) -> Lanes:
    made = Lanes(FairQueue(Costs(launch=0.001, speed=10_000, budget=budget)), 2)
    made.narrow = narrow
    return made


def admit(made: Lanes, *lengths: int, who: str = "one") -> None:
    made.queue.admit(Job([[1] * length for length in lengths], Flow(who)), 0)


def taken(made: Lanes, lane: int) -> Batch:
    batch = made.take(lane, 0)
    assert batch is not None
    return batch


def test_a_single_batch_has_all_cores_and_nobody_beside_it_but_small_ones():
    made = lanes()
    admit(made, 100)
    taken(made, MAIN)
    assert not made.is_narrow(MAIN)
    admit(made, *[100] * 20, who="bulk")
    assert made.take(SIDE, 0) is None
    assert made.take(EXPRESS, 0) is None
    admit(made, 10, who="small")
    assert taken(made, EXPRESS).tokens == 10


def test_where_much_waits_each_lane_has_a_core():
    made = lanes()
    admit(made, *[100] * 20)
    assert made.take(SIDE, 0) is None, "the main lane decides"
    first = taken(made, MAIN)
    assert made.is_narrow(MAIN)
    assert first.padded <= 256
    assert made.take(EXPRESS, 0) is None, "a lane is free"
    taken(made, SIDE)
    admit(made, 10, who="small")
    assert taken(made, EXPRESS).tokens == 10


def test_while_a_side_lane_runs_the_main_one_keeps_to_a_core():
    made = lanes()
    admit(made, *[100] * 6)
    first = taken(made, MAIN)
    taken(made, SIDE)
    made.done(MAIN, first, 0.1, 0.1)
    assert not made.crowded
    taken(made, MAIN)
    assert made.is_narrow(MAIN)


def test_until_the_narrow_model_is_there_all_is_as_with_one_lane():
    made = lanes(narrow=False)
    admit(made, *[100] * 20)
    assert made.crowded
    taken(made, MAIN)
    assert not made.is_narrow(MAIN)
    assert made.take(SIDE, 0) is None


@pytest.mark.parametrize("slower", [1, 4])
def test_waits_are_estimated_by_what_was_seen(slower: int):
    """Two lanes that each take 0.1 s for what they take: the queue's estimate becomes what they do together."""
    made = lanes()
    now = done = 0.0
    for _ in range(60):
        if made.queue.tokens < 1000:
            admit(made, *[100] * 20)
        batches = [(lane, taken(made, lane)) for lane in (MAIN, SIDE)]
        now += 0.1 * slower
        for lane, batch in batches:
            made.done(lane, batch, now, 0.1 * slower)
            done += batch.tokens
    assert made.queue.costs.wait(int(done)) == pytest.approx(now, rel=0.25)  # windows end in the middle of a round


def test_an_idle_pause_says_nothing_about_the_speed():
    made = lanes()
    for second in range(100):
        admit(made, 100)
        batch = made.take(MAIN, float(second))
        assert batch is not None
        made.done(MAIN, batch, second + 0.01, 0.01)
    assert made.queue.costs.drain is None
