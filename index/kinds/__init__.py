"""Kinds of approximate indexes, each a small file: how FAISS makes one, and what a search may spend.

A new kind is a file like :mod:`index.kinds.ivf` and an entry in ``KINDS``. All else is the same for each: what is
built, tuned to a recall and measured, saved, checked, loaded, searched beside later rows and rows that have gone.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.kinds.hnsw import Hnsw
from index.kinds.ivf import Ivf


class ApproximateKind(Protocol):
    """One kind.

    :ivar name: as users and files call it.
    :ivar efforts: what a search may spend, ascending; the least one that has the wanted recall is taken.
    """

    name: str
    efforts: tuple[int, ...]

    def make(self, vectors: FloatMatrix, count: int) -> Any:
        """An empty FAISS index for inner products, trained on a sample if it must be.

        :param vectors: the sample, float32 (n, dim).
        :param count: how many vectors it will hold.
        """

    def parameters(self, effort: int, k: int) -> Any:
        """FAISS's parameters of a search for ``k`` at an effort."""

    def to_bytes(self, index: Any) -> NDArray[np.uint8]:
        """What is saved; the vectors themselves are saved beside it and can be left out."""

    def from_bytes(self, data: NDArray[np.uint8], vectors: FloatMatrix) -> Any:
        """The index again.

        :param vectors: those that it was made of, in their order, float32 (n, dim).
        """


def kinds() -> dict[str, ApproximateKind]:
    """All of them by their names."""
    found: tuple[ApproximateKind, ...] = (Hnsw(), Ivf())
    return {kind.name: kind for kind in found}
