"""Which rows make which step, and how fast it learns: functions of the settings and the step alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_WINDOW = 64  # batches sorted by length at a time


def batches(
    lengths: NDArray[np.int64], batch: int, steps: int, seed: int, done: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Step numbers from ``done`` to ``steps`` with the rows of each: every step has exactly ``batch`` rows.

    Rows are shuffled each epoch, then sorted by length in windows of 64 batches, which are shuffled again; what does
    not fill a batch waits for the next epoch.

    :param lengths: tokens of each text, of shape (n_texts,).
    """
    per_epoch = len(lengths) // batch
    for epoch in range(done // per_epoch, math.ceil(steps / per_epoch)):
        order = np.random.default_rng([seed, epoch]).permutation(len(lengths))[: per_epoch * batch]
        planned: list[NDArray[np.int64]] = []
        for start in range(0, len(order), _WINDOW * batch):
            window = order[start : start + _WINDOW * batch]
            window = window[np.argsort(lengths[window], kind="stable")]
            planned.extend(window.reshape(-1, batch))
        shuffled = np.random.default_rng([seed, epoch, 1]).permutation(per_epoch)
        for place in range(max(0, done - epoch * per_epoch), min(per_epoch, steps - epoch * per_epoch)):
            yield epoch * per_epoch + place, planned[shuffled[place]]


def rate_at(step: int, steps: int, warmup: int) -> float:
    """Share of the peak rate at a step: linear to 1 in ``warmup`` steps, then a cosine to 0 at ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
