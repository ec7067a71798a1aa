"""The cost of a batch on this machine: measured at the start, updated from then on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MOST_BUDGET = 2048
_LEAST_BUDGET = 64
_WORTH = 1.03  # a budget twice as large must be this much faster, or the smaller one stays: it keeps waits short
_WIDTH = 32
_TELLING = 512  # padded tokens; a batch of half as many says something about the speed
_FOLLOW_DRAIN = 0.2  # the same of some batches together
_FOLLOW = 0.05  # weight of the newest batch in the running speed


@dataclass
class Costs:
    """A batch takes about ``launch`` seconds and one ``speed``-th of a second a padded token.

    :ivar launch: seconds of a run, however little is in it.
    :ivar speed: padded tokens per second; follows the batches that are run.
    :ivar budget: padded tokens of a batch from which on larger ones are hardly faster.
    :ivar drain: tokens per second, padding not counted, that the queue gets rid of while there is enough to do, with
        everything else that runs; None until that has been seen.
    """

    launch: float = 0.001
    speed: float = 10_000.0
    budget: int = 512
    drain: float | None = None

    @property
    def padding_worth(self) -> int:
        """Tokens of padding that cost no more than a run of their own would."""
        return int(self.launch * self.speed)

    @property
    def small(self) -> int:
        """Tokens up to which a request counts as small: an eighth of a batch."""
        return max(1, self.budget // 8)

    def seconds(self, padded_tokens: float) -> float:
        """What a batch of so many padded tokens takes, about."""
        return self.launch + padded_tokens / self.speed

    def wait(self, tokens: int) -> float:
        """Seconds until so many tokens are done, about."""
        return tokens / (self.drain or self.speed)

    def follow_drain(self, tokens: int, seconds: float) -> None:
        """So many tokens were done in this time, without a pause."""
        rate = tokens / max(seconds, 1e-9)
        self.drain = rate if self.drain is None else self.drain + _FOLLOW_DRAIN * (rate - self.drain)

    def learn(self, padded_tokens: int, seconds: float) -> None:
        """Follow a batch that took so long; small ones say more about the launch than about the speed."""
        if padded_tokens >= min(self.budget, _TELLING) // 2 and seconds > self.launch:
            self.speed += _FOLLOW * (padded_tokens / (seconds - self.launch) - self.speed)


def measure(
    run: Callable[[Sequence[Sequence[int]]], object],
    token: int,
    *,
    seconds: float = 0.5,
    clock: Callable[[], float] = time.perf_counter,
) -> Costs:
    """Run batches of growing size until larger ones are no faster, or time is up.

    :param run: computes token lists as one batch.
    :param token: an id to fill the lists with.
    :param seconds: when to stop at the latest; one run may take it beyond that.
    """
    end = clock() + seconds
    run([[token]])  # the first run of a session also makes its plans
    launch = min(_timed(run, [[token]], clock) for _ in range(3))
    costs = Costs(launch=launch)
    budget, best = _LEAST_BUDGET, 0.0
    while budget <= MOST_BUDGET:
        lists = [[token] * _WIDTH] * (budget // _WIDTH)
        took = min(_timed(run, lists, clock) for _ in range(2))
        speed = budget / max(took - launch, 1e-9)
        if budget / took <= best * _WORTH:
            break
        best = max(best, budget / took)
        costs = Costs(launch, speed, budget)
        if clock() > end:
            break
        budget *= 2
    return costs


def _timed(
    run: Callable[[Sequence[Sequence[int]]], object], lists: Sequence[Sequence[int]], clock: Callable[[], float]
) -> float:
    begun = clock()
    run(lists)
    return clock() - begun
