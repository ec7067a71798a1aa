"""Types of approximate indexes, each a small file: how FAISS makes one, and what a search may spend.

A new type is a file like :mod:`index.ann.ivf`, an entry in ``kinds`` and in :data:`IndexType`. All else is the same
for each: what is built, tuned to a recall and measured, saved, checked, loaded, searched beside later rows and rows
that have gone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.hnsw import Hnsw
from index.ann.ivf import Ivf

IndexType: TypeAlias = Literal["auto", "flat", "hnsw", "ivf"]
"""What a caller may ask for: exact search, an approximate index, or whichever suits the number of documents."""

INDEX_TYPES: tuple[str, ...] = get_args(IndexType)


class AnnIndexType(Protocol):
    """One type.

    :ivar name: as users and files call it.
    :ivar efforts: what a search may spend, ascending; the least one that has the wanted recall is taken.
    :ivar coded: whether vectors are given to it as int8 codes (as float32 numbers); else as they are.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see above
    @property
    def efforts(self) -> tuple[int, ...]: ...  # noqa: D102 - see above
    @property
    def coded(self) -> bool: ...  # noqa: D102 - see above

    def over_vectors(self) -> AnnIndexType | None:
        """The same over vectors as they are; None if it is."""

    def trained_on(self, count: int) -> int:
        """How many of ``count`` vectors it is trained on."""

    def make(self, vectors: FloatMatrix, dim: int, count: int) -> Any:
        """An empty FAISS index for inner products, trained on a sample if it must be.

        :param vectors: the sample, float32 (n, dim).
        :param count: how many vectors it will hold.
        """

    def assigned(self, index: Any, vectors: FloatMatrix) -> NDArray[np.int64] | None:
        """Into which part of the index each vector (n, dim) goes, if it has parts."""

    def reserve(self, index: Any, assigned: NDArray[np.int64]) -> None:
        """Make room for what goes into each part: FAISS would double it when it is full."""

    def add(self, index: Any, vectors: FloatMatrix, assigned: NDArray[np.int64] | None) -> None:
        """Add vectors (n, dim) to a FAISS index of this kind, each into its part."""

    def least_effort(self, k: int) -> int:
        """For ``k`` neighbors, it spends as much in any case."""

    def parameters(self, effort: int, k: int) -> Any:
        """FAISS's parameters of a search for ``k`` at an effort."""

    def codes(self, index: Any) -> NDArray[np.uint8]:
        """A view of the codes (n, dim) that an index holds, each higher by 128; none if it is not ``coded``."""

    def write(self, index: Any, write: Callable[[bytes], int]) -> None:
        """Write it, in parts."""

    def read(self, path: Path, *, mapped: bool) -> Any:
        """The index again, from a file that was checked: FAISS trusts what it reads.

        :param mapped: leave it on disk where the kind can; nothing can be added to it then.
        """


def kinds() -> dict[str, AnnIndexType]:
    """All of them by their names."""
    all_kinds: tuple[AnnIndexType, ...] = (Hnsw(), Ivf())
    return {kind.name: kind for kind in all_kinds}


def recent_kind() -> AnnIndexType:
    """What later rows are searched through: a graph that is built at twice the pace of the large one."""
    return Hnsw(links=16, build_effort=40)
