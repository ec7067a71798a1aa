"""The plan of a run: steps, examples, and the batches of each step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from encoder_tools.aliases import Log
from encoder_tools.training.data.batch_sampler import batches_of_an_epoch, batches_of_sets
from encoder_tools.training.data.examples import Examples
from encoder_tools.training.engine.schedule import Rows
from encoder_tools.training.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    :ivar steps: of ``batch`` examples each.
    :ivar sets: what was read of each file.
    :ivar parameters: of the model, of which ``trained`` are trained; with adapters, those count too.
    """

    steps: int
    batch: int
    sets: dict[str, dict[str, int]]
    parameters: int
    trained: int


def plan_of(recipe: Recipe, examples: Sequence[Examples], model: Any) -> Plan:
    """The plan of a recipe over examples that were read, for a model."""
    training = recipe.training
    sizes = [len(part.train) for part in examples]
    epoch = batches_of_an_epoch(sizes, [row.weight for row in recipe.data], training.batch)
    steps = training.steps or math.ceil(training.epochs * epoch)
    sets = {row.file: part.facts for row, part in zip(recipe.data, examples, strict=True)}
    every = list(model.parameters())
    learning = [value for value in every if value.requires_grad or not recipe.lora.rank]
    return Plan(steps, training.batch, sets, *(sum(value.numel() for value in part) for part in (every, learning)))


def log_plan(plan: Plan, log: Log) -> None:
    """Log what was read and what will be done."""
    for name, facts in plan.sets.items():
        log(f"{name}: " + ", ".join(f"{count} {what}" for what, count in facts.items() if count))
    log(
        f"{plan.steps} steps of {plan.batch} examples, {plan.trained / 1e6:.2f} million parameters"
        + (f" of {plan.parameters / 1e6:.2f}" if plan.trained < plan.parameters else "")
    )


def batches_of(recipe: Recipe, sizes: Sequence[int], steps: int, done: int) -> Iterator[tuple[int, Rows]]:
    """Number and rows of each batch after ``done`` steps, over sets of these sizes."""
    weights = [row.weight for row in recipe.data]
    return batches_of_sets(sizes, weights, recipe.training.batch, steps, recipe.training.seed, done)
