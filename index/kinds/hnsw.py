"""A graph of near neighbours: fast and close to exact, slow to build.

Source: Malkov and Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable
Small World Graphs", 2016; by FAISS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix

LINKS, BUILD_EFFORT = 32, 80


class Hnsw:
    """The effort is efSearch; 272 bytes a vector beside the vectors."""

    name = "hnsw"
    efforts: tuple[int, ...] = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

    def make(self, vectors: FloatMatrix, count: int) -> Any:
        """Needs no training."""
        import faiss

        index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_EFFORT
        return index

    def parameters(self, effort: int, k: int) -> Any:
        """No graph finds more than it looks at."""
        import faiss

        return faiss.SearchParametersHNSW(efSearch=max(effort, 2 * k))  # type: ignore[attr-defined]

    def to_bytes(self, index: Any) -> NDArray[np.uint8]:
        """Without the vectors."""
        import faiss

        found: NDArray[np.uint8] = faiss.serialize_index(index, faiss.IO_FLAG_SKIP_STORAGE)
        return found

    def from_bytes(self, data: NDArray[np.uint8], vectors: FloatMatrix) -> Any:
        """With a copy of the vectors."""
        import faiss

        index: Any = faiss.deserialize_index(data)
        storage: Any = faiss.IndexFlatIP(vectors.shape[1])
        storage.add(vectors)
        index.storage, index.own_fields = storage, True
        storage.this.disown()  # it is the graph's to free
        return index
