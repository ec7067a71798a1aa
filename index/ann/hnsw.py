"""HNSW: a graph of near neighbors; fast and close to exact, slow to build.

Source: Malkov and Yashunin, "Efficient and Robust AnnIndex Nearest Neighbor Search Using Hierarchical Navigable
Small World Graphs", 2016; by FAISS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix

_LEVELS = 1.02  # links of all levels, in those of the lowest


@dataclass(frozen=True)
class Hnsw:
    """The effort is efSearch; 8.5 bytes a link beside the vectors.

    :ivar links: of each vector.
    :ivar build_effort: efConstruction.
    """

    links: int = 32
    build_effort: int = 80
    name: str = "hnsw"
    efforts: tuple[int, ...] = (
        *(16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256),
        *(320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048),
    )

    def trained_on(self, count: int) -> int:
        """Needs no training."""
        return 0

    def make(self, vectors: FloatMatrix, dim: int, count: int) -> Any:
        """With room for all vectors: FAISS would double it when it is full."""
        import faiss

        index = faiss.IndexHNSWFlat(dim, self.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.build_effort
        storage: Any = faiss.downcast_index(index.storage)
        storage.codes.resize(4 * dim * count)
        storage.codes.resize(0)
        links: Any = index.hnsw
        links.neighbors.resize(int(_LEVELS * 2 * self.links * count))
        links.neighbors.resize(0)
        return index

    def assigned(self, index: Any, vectors: FloatMatrix) -> NDArray[np.int64] | None:
        """A graph has no parts."""
        return None

    def reserve(self, index: Any, assigned: NDArray[np.int64]) -> None:
        """There is room already."""

    def add(self, index: Any, vectors: FloatMatrix, assigned: NDArray[np.int64] | None) -> None:
        """Links each to its neighbors."""
        index.add(vectors)

    def parameters(self, effort: int, k: int) -> Any:
        """No graph finds more than it looks at."""
        import faiss

        return faiss.SearchParametersHNSW(efSearch=max(effort, k))  # type: ignore[attr-defined]

    def write(self, index: Any, write: Callable[[bytes], int]) -> None:
        """Without the vectors."""
        import faiss

        module: Any = faiss  # its stubs do not know of callbacks
        faiss.write_index(index, module.PyCallbackIOWriter(write), faiss.IO_FLAG_SKIP_STORAGE)

    def read(self, file: BinaryIO, vectors: FloatMatrix) -> Any:
        """With a copy of the vectors."""
        import faiss

        module: Any = faiss
        index: Any = faiss.read_index(module.PyCallbackIOReader(file.read))
        storage: Any = faiss.IndexFlatIP(vectors.shape[1])
        storage.add(np.ascontiguousarray(vectors))
        index.storage, index.own_fields = storage, True
        storage.this.disown()  # it is the graph's to free
        return index
