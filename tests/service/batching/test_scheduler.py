"""The scheduler by itself: time is a number here, and thousands of clients are a list."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Batch, Costs, FairQueue, Flow, Job, QueueFullError, QueueLimits

COSTS = Costs(launch=0.001, speed=20_000, budget=512)
UNLIMITED = QueueLimits(max_wait=1e9, max_tokens=10**9)


def job(*lengths: int, who: object = "a", deadline: float | None = None, owner: object = None) -> Job:
    return Job([[1] * length for length in lengths], Flow(who, who), deadline=deadline, owner=owner)


def queue(limits: QueueLimits = UNLIMITED) -> FairQueue:
    return FairQueue(Costs(COSTS.launch, COSTS.speed, COSTS.budget), limits)


def lengths_of(batch: Batch | None) -> list[list[int]]:
    assert batch is not None
    return [sorted(len(job.ids[place]) for place in places) for job, places in batch.parts]


def test_lists_are_batched_with_their_like_the_longest_first():
    waiting = queue()
    waiting.admit(job(10, 200, 12, 190, 11, 8), 0)
    assert lengths_of(waiting.take(0)) == [[190, 200]]
    assert lengths_of(waiting.take(0)) == [[8, 10, 11, 12]]
    assert waiting.take(0) is None


def test_a_batch_is_filled_across_requests_and_holds_no_more_than_its_budget():
    waiting = queue()
    for number in range(30):
        waiting.admit(job(40 + number % 3, who=number), 0)
    sizes = []
    while (batch := waiting.take(0)) is not None:
        assert batch.padded <= COSTS.budget
        sizes.append(batch.rows)
        waiting.done(batch)
    assert sum(sizes) == 30
    assert len(sizes) <= 4
    assert waiting.tokens == waiting.running == len(waiting) == 0


def test_a_list_beyond_the_budget_goes_alone():
    waiting = queue()
    waiting.admit(job(2000, 2000), 0)
    assert [lengths_of(waiting.take(0)), lengths_of(waiting.take(0))] == [[[2000]], [[2000]]]


def test_a_small_request_overtakes_a_large_one_and_is_not_filled_up_with_it():
    waiting = queue()
    waiting.admit(job(*[20] * 500, who="bulk"), 0)
    first = waiting.take(0)
    assert first is not None
    assert first.rows == 512 // 20
    waiting.admit(job(15, who="single"), 0.01)
    assert lengths_of(waiting.take(0.02)) == [[15]]


def test_a_small_request_rides_along_where_a_large_one_has_its_turn():
    waiting = queue()
    waiting.admit(job(*[20] * 20, who="bulk"), 0)
    waiting.admit(job(5, who="single"), 0)
    assert lengths_of(waiting.take(0)) == [[5]]
    waiting.admit(job(18, who="single"), 0)  # it has had some already, so it is not its turn
    assert [len(lengths) for lengths in lengths_of(waiting.take(0))] == [20, 1]


def test_a_tenants_many_connections_have_one_share():
    waiting = queue()
    for connection in range(9):
        waiting.admit(Job([[1] * 100] * 200, Flow("many", connection)), 0)
    waiting.admit(Job([[1] * 100] * 200, Flow("one", 0)), 0)
    rows: dict[object, int] = defaultdict(int)
    for _ in range(60):
        batch = waiting.take(0)
        assert batch is not None
        for part, places in batch.parts:
            rows[part.flow.tenant] += len(places)
    assert rows["one"] == pytest.approx(rows["many"], rel=0.25)


def test_who_comes_late_neither_gets_nor_loses_the_past():
    waiting = queue()
    waiting.admit(job(*[100] * 1000, who="early"), 0)
    for _ in range(100):
        waiting.take(0)
    waiting.admit(job(*[100] * 1000, who="late"), 0)
    served = [next(iter(waiting.take(0).parts))[0].flow.tenant for _ in range(20)]  # type: ignore[union-attr]
    assert 8 <= served.count("late") <= 12


def test_what_nobody_wants_any_more_is_not_computed():
    waiting = queue()
    gone, kept = job(*[50] * 100, who="gone"), job(50, who="kept")
    waiting.admit(gone, 0)
    waiting.admit(kept, 0)
    first = waiting.take(0)
    waiting.drop(gone)
    waiting.drop(gone)
    assert waiting.tokens in (0, 50)
    rest = [waiting.take(0), waiting.take(0)]
    batches = [batch for batch in (first, *rest) if batch is not None]
    assert sum(len(places) for batch in batches for part, places in batch.parts if part is gone) <= 10
    assert any(part is kept for batch in batches for part, _ in batch.parts)
    for batch in batches:
        waiting.done(batch)
    assert gone.finished


def test_a_passed_deadline_drops_what_has_not_begun_and_is_told():
    waiting = queue()
    late, other = job(10, deadline=5.0), job(10, who="b", deadline=7.0)
    waiting.admit(late, 0)
    waiting.admit(other, 0)
    batch = waiting.take(5.0)
    assert batch is not None
    assert [part for part, _ in batch.parts] == [other]
    assert waiting.expired == [late]
    assert waiting.tokens == 0


def test_the_express_takes_only_small_requests_and_few_of_them():
    waiting = queue()
    waiting.admit(job(*[60] * 30, who="bulk"), 0)
    assert waiting.take_small(0) is None
    for number in range(20):
        waiting.admit(job(40, who=number), 0)
    batch = waiting.take_small(0)
    assert batch is not None
    assert 1 <= batch.rows <= max(1, waiting.costs.budget // 4 // 40) < 20


@pytest.mark.parametrize("lengths", [(100,) * 40, (100,)])
def test_the_same_rule_refuses_one_text_and_a_list(lengths: tuple[int, ...]):
    waiting = queue(QueueLimits(max_wait=1.0))

    def fill() -> None:
        for number in range(1000):  # each as small as the newcomer: it must wait for all of them
            waiting.admit(job(*lengths, who=number), 0)

    with pytest.raises(QueueFullError) as full:
        fill()
    assert full.value.retry_after >= 1
    assert waiting.tokens / COSTS.speed == pytest.approx(1.0, abs=0.21)


def test_a_large_backlog_of_others_refuses_no_small_request():
    waiting = queue(QueueLimits(max_wait=1.0))
    waiting.admit(job(*[100] * 2000, who="bulk"), 0)  # ten seconds of work
    for number in range(50):
        waiting.admit(job(30, who=number), 0)
    with pytest.raises(QueueFullError, match="wait about 10 s"):
        waiting.admit(job(*[100] * 2000, who="second"), 0)


def test_memory_is_bounded_whatever_the_speed():
    waiting = queue(QueueLimits(max_wait=1e9, max_tokens=1000))
    waiting.admit(job(900), 0)
    with pytest.raises(QueueFullError, match="at most 1,000"):
        waiting.admit(job(200, who="b"), 0)


def test_flows_that_have_gone_are_forgotten():
    waiting = queue()
    for number in range(20_000):
        waiting.admit(job(5, who=number), 0)
        assert waiting.take(0) is not None
    assert len(waiting.flows) < 10_000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(1, 700), min_size=1, max_size=30)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_every_list_is_computed_once_whatever_comes(jobs: list[tuple[int, list[int]]], chance: random.Random):
    waiting, admitted, computed = queue(), [], set()
    arriving = [job(*lengths, who=who, owner=number) for number, (who, lengths) in enumerate(jobs)]
    dropped = {one.owner for one in arriving if chance.random() < 0.2}
    running: list[Batch] = []
    while arriving or waiting.tokens or running:
        step = chance.random()
        if arriving and step < 0.4:
            admitted.append(arriving.pop())
            waiting.admit(admitted[-1], 0)
        elif step < 0.7 and admitted and (one := chance.choice(admitted)).owner in dropped:
            waiting.drop(one)
        elif step < 0.8 and running:
            waiting.done(running.pop())
        elif (batch := waiting.take(0) if step < 0.95 else waiting.take_small(0)) is not None:
            running.append(batch)
            assert batch.rows == 1 or batch.padded <= COSTS.budget
            assert batch.padded - batch.tokens <= batch.rows * 2 * COSTS.padding_worth
            for part, places in batch.parts:
                assert computed.isdisjoint((part.owner, place) for place in places)
                computed.update((part.owner, place) for place in places)
    assert waiting.running == waiting.tokens == 0
    wanted = {(one.owner, place) for one in admitted if not one.dropped for place in range(len(one.ids))}
    assert wanted <= computed
    assert all(one.finished for one in admitted)


def simulate(singles: int, bulks: int, *, until: float, rate: float, seed: int) -> dict[str, list[float]]:
    """Clients that send one text ``rate`` times a second each, beside some that always have a large request waiting."""
    chance, waiting, ticks = random.Random(seed), queue(), count()
    events: list[tuple[float, int, str, object]] = []
    took: dict[str, list[float]] = {"single": [], "bulk": [], "tokens": [0.0]}
    for number in range(singles):
        heapq.heappush(events, (chance.expovariate(rate), next(ticks), "single", number))
    for number in range(bulks):
        heapq.heappush(events, (0.0, next(ticks), "bulk", ("bulk", number)))
    now, free_at = 0.0, 0.0
    running: Batch | None = None
    while now < until:
        if running is None and (running := waiting.take(now)) is not None:
            free_at = now + COSTS.seconds(running.padded)
        now = min(free_at if running else until, events[0][0])
        if running is not None and now == free_at:
            took["tokens"][0] += running.tokens
            for done in waiting.done(running):
                kind, who = done.owner
                took[kind].append(now - done.arrived)
                if kind == "bulk":
                    heapq.heappush(events, (now, next(ticks), kind, who))
            running = None
            continue
        at, _, kind, who = heapq.heappop(events)
        sizes = [chance.randint(5, 60)] if kind == "single" else [chance.randint(5, 200) for _ in range(200)]
        waiting.admit(job(*sizes, who=who, owner=(kind, who)), at)
        if kind == "single":
            heapq.heappush(events, (at + chance.expovariate(rate), next(ticks), kind, who))
    return {kind: sorted(values) for kind, values in took.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_thousands_of_single_clients_beside_bulk_ones_all_get_on(seed: int):
    """4,000 clients that take a third of the machine, beside five that would take all of it."""
    result = simulate(4000, 5, until=20.0, rate=0.05, seed=seed)
    batch = COSTS.seconds(COSTS.budget)
    assert result["single"][int(0.99 * len(result["single"]))] < 3 * batch  # the one that runs, one of singles, its own
    assert len(result["single"]) > 3000
    assert len(result["bulk"]) >= 5
    assert result["tokens"][0] > 0.75 * 20.0 * COSTS.speed  # a run for each few singles costs the rest


def test_a_bulk_client_gets_its_share_beside_singles_that_would_take_all():
    """Sixty of them, and it: a sixty-first part of the machine is 330 tokens per second, its request has 20,000."""
    result = simulate(60, 1, until=160.0, rate=15.0, seed=3)
    assert len(result["bulk"]) == 2
