"""HNSW over one bit a number: an eighth of the memory of int8 codes, in a graph as large.

Cosines are estimated from the signs of a vector's numbers around a center and two factors of its own; about a hundred
of those that seem nearest are compared by the vectors themselves. The same of a quarter of the numbers in int8
(Matryoshka) would take twice the memory and find less: of the 10 nearest of 100,000 sentences at width 384, 0.93 are
among the best 100 by the first 128 numbers, 0.99 by all signs.

Source: Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
Nearest Neighbor Search", SIGMOD 2024; by FAISS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.ann.hnsw import Hnsw

_TRAINED = 20_000  # vectors by which the center is chosen
_TIMES, _MORE = 4, 60  # candidates that are compared at least: so many times those that are wanted, and more
_MOST_TIMES = 4  # and at most, times as many: the more effort is needed, the more are compared


@dataclass(frozen=True)
class HnswBits:
    """The effort is efSearch.

    :ivar graph: its links.
    """

    graph: Hnsw = field(default_factory=lambda: Hnsw(coded=False))
    name: str = "hnsw-bits"
    coded: bool = False
    grows: bool = True
    estimates: bool = True

    @property
    def efforts(self) -> tuple[int, ...]:
        """As of the graph."""
        return self.graph.efforts

    def finer(self) -> Hnsw | None:
        """Over int8 codes."""
        return Hnsw()

    def trained_on(self, count: int) -> int:
        """For the center."""
        return min(count, _TRAINED)

    def make(self, vectors: FloatMatrix, dim: int, count: int) -> Any:
        """Distances are those of Euclid, which rank unit vectors as cosines do: FAISS has no others for these codes."""
        import faiss

        index: Any = faiss.IndexHNSWRaBitQ(dim, self.graph.links, 1)
        index.hnsw.efConstruction = self.graph.build_effort
        index.train(vectors)
        storage: Any = faiss.downcast_index(index.storage)
        self.graph.make_room(index, storage.code_size, count)
        return index

    def assigned(self, index: Any, vectors: FloatMatrix) -> NDArray[np.int64] | None:
        """As the graph's."""
        return self.graph.assigned(index, vectors)

    def reserve(self, index: Any, assigned: NDArray[np.int64]) -> None:
        """As the graph's."""
        self.graph.reserve(index, assigned)

    def add(self, index: Any, vectors: FloatMatrix, assigned: NDArray[np.int64] | None) -> None:
        """As the graph's."""
        self.graph.add(index, vectors, assigned)

    def least_effort(self, k: int) -> int:
        """What is compared must have been found."""
        return _TIMES * k + _MORE

    def candidate_count(self, depth: int, effort: int) -> int:
        """As many as are compared."""
        return max(depth, min(_MOST_TIMES * (_TIMES * depth + _MORE), effort))

    def cosines(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """From squared distances of unit vectors."""
        return np.asarray(1 - scores / 2, dtype=np.float32)

    def parameters(self, effort: int, k: int) -> Any:
        """No graph finds more than it looks at."""
        return self.graph.parameters(effort, k)

    def codes(self, index: Any) -> NDArray[np.uint8]:
        """None that are int8."""
        return np.empty((0, index.d), dtype=np.uint8)

    def write(self, index: Any, write: Callable[[bytes], int]) -> None:
        """All of it."""
        self.graph.write(index, write)

    def read(self, path: Path, *, mapped: bool) -> Any:
        """Mapped, it takes nothing more in."""
        return self.graph.read(path, mapped=mapped)


class BitScan:
    """Looks at all codes of an index of this kind.

    :param index: FAISS's.
    """

    def __init__(self, index: Any) -> None:
        import faiss

        self._index = index  # which has the codes
        self._storage: Any = faiss.downcast_index(index.storage)

    def nearest(self, query: FloatMatrix, count: int, among: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some ascending numbers of codes that seem nearest to a query (dim,), ascending."""
        import faiss

        module: Any = faiss  # its stubs do not know of arrays
        chosen = np.zeros(self._storage.ntotal, dtype=bool)
        chosen[among] = True
        bits = np.packbits(chosen, bitorder="little")
        selector = module.IDSelectorBitmap(bits)
        parameters = module.RaBitQSearchParameters()
        parameters.sel = selector  # which must live as long
        _, numbers = self._storage.search(query[None], min(count, len(among)), params=parameters)
        return np.sort(numbers[0][numbers[0] >= 0]).astype(np.int64)
