"""Stratified folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def within_class(targets: NDArray[np.intp], rng: np.random.RandomState) -> NDArray[np.intp]:
    """A random place 0, 1, 2... of each example among those of its class, shape (n,).

    By the remainder of that, folds are stratified, whatever the sizes: scikit-learn's splitters warn or fail on classes
    with fewer examples than folds, the usual case with few labels.
    """
    order = rng.permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    sizes = np.bincount(targets)
    rank = np.empty(len(targets), dtype=np.intp)
    rank[order] = np.arange(len(targets)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank
