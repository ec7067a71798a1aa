"""Lists of vectors around centres, of which a search looks into a few: built in a fraction of a graph's time.

Source: Sivic and Zisserman, "Video Google", 2003; Jegou, Douze and Schmid, "Product Quantization for Nearest Neighbor
Search", 2011; by FAISS, whose guidelines ask for 4 to 16 times the square root of their number as lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix

_LISTS, _STEPS, _POINTS = 4, 10, 64  # times the square root; of k-means; of its points for each centre


class Ivf:
    """The effort is nprobe; the vectors are kept in the lists once more."""

    name = "ivf"
    efforts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

    def make(self, vectors: FloatMatrix, count: int) -> Any:
        """Trained on the sample."""
        import faiss

        dim, lists = vectors.shape[1], max(1, min(int(_LISTS * count**0.5), len(vectors)))
        centres: Any = faiss.IndexFlatIP(dim)
        index: Any = faiss.IndexIVFFlat(centres, dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.own_fields = True
        centres.this.disown()  # they are the index's to free
        index.cp.niter, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = _STEPS, _POINTS, 1
        index.train(vectors)
        return index

    def parameters(self, effort: int, k: int) -> Any:
        """As many lists as the effort says."""
        import faiss

        return faiss.SearchParametersIVF(nprobe=effort)  # type: ignore[call-arg]

    def to_bytes(self, index: Any) -> NDArray[np.uint8]:
        """All of it."""
        import faiss

        found: NDArray[np.uint8] = faiss.serialize_index(index)
        return found

    def from_bytes(self, data: NDArray[np.uint8], vectors: FloatMatrix) -> Any:
        """As it was saved."""
        import faiss

        return faiss.deserialize_index(data)
