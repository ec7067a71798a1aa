"""Batches and learning rates as functions of the settings and the step alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_WINDOW = 64  # batches sorted by length at a time

Rows = NDArray[np.int64]


def batches(
    lengths: NDArray[np.int64], batch: int, steps: int, seed: int, done: int, pieces: int = 0
) -> Iterator[tuple[int, Rows]]:
    """Step numbers from ``done`` to ``steps`` with the rows of each.

    Rows are shuffled each epoch, then sorted by length in windows of 64 batches, whose batches are shuffled again. A
    step has exactly ``batch`` rows, and what does not fill the last batch of an epoch waits for the next epoch. With
    ``pieces``, a step has fewer rows where padded to the longest they would hold more, and no text waits.

    :param lengths: tokens of each text, of shape (n_texts,), at least ``batch`` of them.
    :param pieces: most tokens of a step, padding included; 0 sets no limit.
    """
    first = epoch = 0
    while first < steps:
        planned = _epoch(lengths, batch, seed, epoch, pieces)
        shuffled = np.random.default_rng([seed, epoch, 1]).permutation(len(planned))
        for position in range(max(0, done - first), min(len(planned), steps - first)):
            yield first + position, planned[shuffled[position]]
        first, epoch = first + len(planned), epoch + 1


def rate_at(step: int, steps: int, warmup: int) -> float:
    """Share of the peak rate at a step: linear to 1 in ``warmup`` steps, then a cosine to 0 at ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _epoch(lengths: NDArray[np.int64], batch: int, seed: int, epoch: int, pieces: int) -> list[Rows]:
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    order = order if pieces else order[: len(order) // batch * batch]
    planned: list[Rows] = []
    waiting = order[:0]
    for start in range(0, len(order), _WINDOW * batch):
        window = np.concatenate([waiting, order[start : start + _WINDOW * batch]])
        window = window[np.argsort(lengths[window], kind="stable")]
        full, waiting = _cut(window, lengths[window], batch, pieces)
        planned.extend(full)
    return [*planned, waiting] if len(waiting) else planned


def _cut(rows: Rows, lengths: NDArray[np.int64], batch: int, pieces: int) -> tuple[list[Rows], Rows]:
    """Batches of rows sorted by length, and the rows that do not fill one."""
    full: list[Rows] = []
    start = 0
    for row in range(len(rows)):
        if row > start and pieces and (row + 1 - start) * lengths[row] > pieces:
            full.append(rows[start:row])
            start = row
        if row + 1 - start == batch:
            full.append(rows[start : row + 1])
            start = row + 1
    return full, rows[start:]
