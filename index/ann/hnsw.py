"""HNSW over int8 codes: a graph of near neighbors; fast and close to exact, slow to build.

It is built and walked in whole numbers, which halves the time of both; what it leads to is compared by the vectors
themselves, so that no result is rounded. FAISS's file is mapped, not read, and holds codes and links together: all
processes that search it share them. Where codes are too coarse, because one channel outweighs all others, the graph is
over the vectors.

Source: Malkov and Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable
Small World Graphs", 2016; by FAISS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix

_SPARE, _SPARE_SHARE = 20, 2  # candidates more than are wanted, and times as many, that a graph over codes is asked for
_LEVELS = 1.02  # links of all levels, in those of the lowest


@dataclass(frozen=True)
class Hnsw:
    """The effort is efSearch; 8.5 bytes a link beside the codes.

    :ivar links: of each vector.
    :ivar build_effort: efConstruction.
    :ivar coded: whether it is over codes.
    :ivar grows: and ``estimates``, see :class:`index.ann.index_types.AnnIndexType`.
    """

    links: int = 24
    build_effort: int = 100
    name: str = "hnsw"
    coded: bool = True
    grows: bool = True
    estimates: bool = False
    efforts: tuple[int, ...] = (
        *(16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256),
        *(320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048),
    )

    def finer(self) -> Hnsw | None:
        """Over vectors, in four times the memory."""
        return replace(self, coded=False) if self.coded else None

    def trained_on(self, count: int) -> int:
        """Needs no training."""
        return 0

    def make(self, vectors: FloatMatrix, dim: int, count: int) -> Any:
        """With room for all codes: FAISS would double it when it is full."""
        import faiss

        codes: Any = faiss.ScalarQuantizer.QT_8bit_direct_signed
        index: Any
        if self.coded:
            index = faiss.IndexHNSWSQ(dim, codes, self.links, faiss.METRIC_INNER_PRODUCT)
        else:
            index = faiss.IndexHNSWFlat(dim, self.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.build_effort
        self.make_room(index, (1 if self.coded else 4) * dim, count)
        return index

    def make_room(self, index: Any, code_size: int, count: int) -> None:
        """For so many codes and their links."""
        import faiss

        storage: Any = faiss.downcast_index(index.storage)
        storage.codes.resize(code_size * count)
        storage.codes.resize(0)
        links: Any = index.hnsw
        links.neighbors.resize(int(_LEVELS * 2 * self.links * count))
        links.neighbors.resize(0)

    def assigned(self, index: Any, vectors: FloatMatrix) -> NDArray[np.int64] | None:
        """A graph has no parts."""
        return None

    def reserve(self, index: Any, assigned: NDArray[np.int64]) -> None:
        """There is room already."""

    def add(self, index: Any, vectors: FloatMatrix, assigned: NDArray[np.int64] | None) -> None:
        """Links each to its neighbors."""
        index.add(vectors)

    def least_effort(self, k: int) -> int:
        """No graph finds more than it looks at."""
        return k

    def candidate_count(self, depth: int, effort: int) -> int:
        """By codes, two that are nearly as near may have changed places: some more are compared."""
        return max(depth, min(_SPARE_SHARE * depth + _SPARE, effort)) if self.coded else depth

    def cosines(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """They are."""
        return scores

    def parameters(self, effort: int, k: int) -> Any:
        """No graph finds more than it looks at."""
        import faiss

        return faiss.SearchParametersHNSW(efSearch=max(effort, k))  # type: ignore[attr-defined]

    def codes(self, index: Any) -> NDArray[np.uint8]:
        """A view of its codes (n, dim), as long as the index is there."""
        import faiss

        module: Any = faiss
        storage: Any = faiss.downcast_index(index.storage)
        count = storage.codes.size()
        if not count:
            return np.empty((0, index.d), dtype=np.uint8)
        return np.asarray(module.rev_swig_ptr(storage.codes.data(), count).reshape(-1, index.d))

    def write(self, index: Any, write: Callable[[bytes], int]) -> None:
        """All of it."""
        import faiss

        module: Any = faiss  # its stubs do not know of callbacks
        faiss.write_index(index, module.PyCallbackIOWriter(write))

    def read(self, path: Path, *, mapped: bool) -> Any:
        """Mapped, it takes nothing more in."""
        import faiss

        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
