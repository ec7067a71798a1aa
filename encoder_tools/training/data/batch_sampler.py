"""Batches of contrastive training: each from one set, in a seeded order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from encoder_tools.training.engine.schedule import Rows


def batches_of_sets(
    sizes: Sequence[int], weights: Sequence[float], batch: int, steps: int, seed: int, done: int
) -> Iterator[tuple[int, Rows]]:
    """Step numbers from ``done`` to ``steps`` with the rows of each, numbered over all sets one behind another.

    :param sizes: examples of each set, two or more.
    :param weights: how often the batches of each set come, beside its size.
    """
    first = epoch = 0
    while first < steps:
        planned = _epoch(sizes, weights, batch, seed, epoch)
        for position in range(max(0, done - first), min(len(planned), steps - first)):
            yield first + position, planned[position]
        first, epoch = first + len(planned), epoch + 1


def batches_of_an_epoch(sizes: Sequence[int], weights: Sequence[float], batch: int) -> int:
    """How many steps one pass over the sets takes."""
    return sum(_count(size, weight, batch) for size, weight in zip(sizes, weights, strict=True))


def _count(size: int, weight: float, batch: int) -> int:
    return max(1, round(weight * max(1, size // batch)))


def _epoch(sizes: Sequence[int], weights: Sequence[float], batch: int, seed: int, epoch: int) -> list[Rows]:
    planned: list[Rows] = []
    start = 0
    for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        order = np.random.default_rng([seed, epoch, number])
        rows = order.permutation(size)
        for position in range(_count(size, weight, batch)):
            if (position + 1) * batch > len(rows) and size >= batch:  # a weight above 1: go round again
                rows = np.concatenate([rows[: position * batch], order.permutation(size)])
            planned.append(start + rows[position * batch : (position + 1) * batch] if size >= batch else start + rows)
        start += size
    shuffled = np.random.default_rng([seed, epoch, len(sizes)]).permutation(len(planned))
    return [planned[position] for position in shuffled]
