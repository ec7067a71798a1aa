"""IVF: lists of vectors around centers, of which a search reads a few; built much faster than a graph.

Source: Sivic and Zisserman, "Video Google", 2003; Jegou, Douze and Schmid, "Product Quantization for Nearest Neighbor
Search", 2011; by FAISS, whose guidelines ask for 4 to 16 times the square root of their number as lists.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix

_LISTS, _STEPS, _POINTS = 4, 10, 64  # times the square root; of k-means; of its points for each center


class Ivf:
    """The effort is nprobe; the vectors are kept in the lists once more."""

    name = "ivf"
    coded = False
    grows = False
    estimates = False
    efforts: tuple[int, ...] = (
        *(1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96),
        *(128, 192, 256, 384, 512, 768, 1024),
    )

    def finer(self) -> None:
        """It is so already."""

    def trained_on(self, count: int) -> int:
        """As many points as k-means looks at."""
        return _POINTS * _lists(count)

    def make(self, vectors: FloatMatrix, dim: int, count: int) -> Any:
        """Trained on the sample."""
        import faiss

        lists = min(_lists(count), len(vectors))
        centers: Any = faiss.IndexFlatIP(dim)
        index: Any = faiss.IndexIVFFlat(centers, dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.own_fields = True
        centers.this.disown()  # they are the index's to free
        index.cp.niter, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = _STEPS, _POINTS, 1
        index.train(vectors)
        return index

    def assigned(self, index: Any, vectors: FloatMatrix) -> NDArray[np.int64] | None:
        """The list of the nearest center."""
        _, numbers = index.quantizer.search(vectors, 1)
        return np.asarray(numbers[:, 0], dtype=np.int64)

    def reserve(self, index: Any, assigned: NDArray[np.int64]) -> None:
        """Each list just as long as it will be."""
        for number, size in enumerate(np.bincount(assigned, minlength=index.nlist).tolist()):
            index.invlists.resize(number, size)
            index.invlists.resize(number, 0)

    def add(self, index: Any, vectors: FloatMatrix, assigned: NDArray[np.int64] | None) -> None:
        """Each into its list."""
        import faiss

        if assigned is None:
            index.add(vectors)
        else:
            numbers = np.ascontiguousarray(assigned)
            index.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(numbers))

    def least_effort(self, k: int) -> int:
        """One list may hold as many."""
        return 1

    def candidate_count(self, depth: int, effort: int) -> int:
        """No more."""
        return depth

    def cosines(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """They are."""
        return scores

    def parameters(self, effort: int, k: int) -> Any:
        """As many lists as the effort says."""
        import faiss

        return faiss.SearchParametersIVF(nprobe=effort)  # type: ignore[call-arg]

    def write(self, index: Any, write: Callable[[bytes], int]) -> None:
        """All of it."""
        import faiss

        module: Any = faiss  # its stubs do not know of callbacks
        faiss.write_index(index, module.PyCallbackIOWriter(write))

    def codes(self, index: Any) -> NDArray[np.uint8]:
        """It has none."""
        return np.empty((0, index.d), dtype=np.uint8)

    def read(self, path: Path, *, mapped: bool) -> Any:
        """As it was saved, in memory."""
        import faiss

        return faiss.read_index(str(path))


def _lists(count: int) -> int:
    return max(1, int(_LISTS * count**0.5))
