"""Types of approximate indexes, each a small file: how FAISS makes one, and what a search may spend.

A new type is a file like :mod:`index.ann.ivf`, an entry in ``kinds`` and in :data:`IndexType`. All else is the same
for each: what is built, tuned to a recall and measured, saved, checked, loaded, searched beside later rows and rows
that have gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.hnsw import Hnsw
from index.ann.hnsw_bits import HnswBits
from index.ann.ivf import Ivf

IndexType: TypeAlias = Literal["auto", "flat", "hnsw", "ivf"]
"""What a caller may ask for: exact search, an approximate index, or whichever suits the number of documents."""

INDEX_TYPES: tuple[str, ...] = get_args(IndexType)


class AnnIndexType(Protocol):
    """One type.

    :ivar name: as users and files call it.
    :ivar efforts: what a search may spend, ascending; the least one that has the wanted recall is taken.
    :ivar coded: whether vectors are given to it as int8 codes (as float32 numbers); else as they are.
    :ivar grows: whether later vectors may be added to what was built.
    :ivar estimates: whether its scores may be far from the cosines, so that all candidates must be compared.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see above
    @property
    def efforts(self) -> tuple[int, ...]: ...  # noqa: D102 - see above
    @property
    def coded(self) -> bool: ...  # noqa: D102 - see above
    @property
    def grows(self) -> bool: ...  # noqa: D102 - see above
    @property
    def estimates(self) -> bool: ...  # noqa: D102 - see above

    def finer(self) -> AnnIndexType | None:
        """The same over finer codes, or over vectors as they are; None if it is."""

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

    def candidate_count(self, depth: int, effort: int) -> int:
        """How many candidates are to be compared at an effort, so that the ``depth`` nearest are among them."""

    def cosines(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of vectors, or of their codes, from FAISS's scores."""

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


def large_kind(name: str, storage: str) -> AnnIndexType:
    """What a collection is searched through, by what was asked for and how it keeps its vectors."""
    if storage == "binary":
        return HnswBits()
    return kinds()["hnsw" if name in ("auto", "flat") else name]


def recent_kind(main: AnnIndexType) -> AnnIndexType:
    """What rows later than those of the large index are searched through: a graph that is built at twice the pace."""
    if main.estimates:
        return HnswBits(Hnsw(links=16, build_effort=40, coded=False))
    return Hnsw(links=16, build_effort=40, coded=main.coded)


def with_finer(kind: AnnIndexType) -> Iterator[AnnIndexType]:
    """A kind, and those that are taken in its place where it misses the recall."""
    following: AnnIndexType | None = kind
    while following is not None:
        yield following
        following = following.finer()
