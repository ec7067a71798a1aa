"""The cost of a run, estimated from two of its own steps."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from encoder_tools.training.engine.schedule import Rows
from encoder_tools.training.objectives.contrastive import ContrastiveObjective

_MEGABYTE = 1024 * 1024


class Estimate(NamedTuple):
    """Of a whole run, but for measuring and saving.

    :ivar seconds: of all steps.
    :ivar tokens: of a step, padding left out.
    :ivar memory_mb: most memory of the process so far, with weights, gradients and moments; a GPU's is not counted.
    """

    seconds: float
    tokens: int
    memory_mb: float

    def __str__(self) -> str:
        return (
            f"about {self.seconds / 60:.1f} min, {self.tokens} tokens per step, {self.memory_mb:.0f} MB of memory "
            "(measured on two steps)"
        )


def estimate(objective: ContrastiveObjective, plan: Iterator[tuple[int, Rows]], steps: int) -> Estimate:
    """Compute the gradients of the first two steps, change nothing, and say what all will take.

    The first step warms up; the second is timed.
    """
    parameters = objective.parameters().values()
    spent, tokens = 0.0, 0
    for _, rows in islice(plan, 2):
        begun = time.monotonic()
        objective.backward(rows)
        spent, tokens = time.monotonic() - begun, objective.tokens_of(rows)
        for parameter in parameters:
            parameter.grad = None
    moments = 2 * sum(4 * parameter.numel() for parameter in parameters)  # AdamW's, which no step has made yet
    return Estimate(steps * spent, tokens, (_peak() + moments) / _MEGABYTE)


def _peak() -> int:
    """Most resident memory of this process so far, in bytes; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
