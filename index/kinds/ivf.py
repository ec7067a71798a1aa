"""Lists of vectors around centers, of which a search looks into a few: built in a fraction of a graph's time.

Source: Sivic and Zisserman, "Video Google", 2003; Jegou, Douze and Schmid, "Product Quantization for Nearest Neighbor
Search", 2011; by FAISS, whose guidelines ask for 4 to 16 times the square root of their number as lists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from encoder_tools.protocols import FloatMatrix

_LISTS, _STEPS, _POINTS = 4, 10, 64  # times the square root; of k-means; of its points for each center
_ROOM = 1.3  # of a list, in what the training sample lets expect: FAISS would double it when it is full


class Ivf:
    """The effort is nprobe; the vectors are kept in the lists once more."""

    name = "ivf"
    efforts: tuple[int, ...] = (
        *(1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96),
        *(128, 192, 256, 384, 512, 768, 1024),
    )

    def trained_on(self, count: int) -> int:
        """As many points as k-means looks at."""
        return _POINTS * _lists(count)

    def make(self, vectors: FloatMatrix, dim: int, count: int) -> Any:
        """Trained on the sample, with room in its lists as that lets expect."""
        import faiss

        lists = min(_lists(count), len(vectors))
        centers: Any = faiss.IndexFlatIP(dim)
        index: Any = faiss.IndexIVFFlat(centers, dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.own_fields = True
        centers.this.disown()  # they are the index's to free
        index.cp.niter, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = _STEPS, _POINTS, 1
        index.train(vectors)
        _, at = index.quantizer.search(vectors, 1)
        expected = np.bincount(at[:, 0], minlength=lists) * (_ROOM * count / len(vectors))
        for number, size in enumerate(expected.astype(int).tolist()):
            index.invlists.resize(number, size)
            index.invlists.resize(number, 0)
        return index

    def add(self, index: Any, vectors: FloatMatrix) -> None:
        """Each into the list of the nearest center."""
        index.add(vectors)

    def parameters(self, effort: int, k: int) -> Any:
        """As many lists as the effort says."""
        import faiss

        return faiss.SearchParametersIVF(nprobe=effort)  # type: ignore[call-arg]

    def write(self, index: Any, write: Callable[[bytes], int]) -> None:
        """All of it."""
        import faiss

        module: Any = faiss  # its stubs do not know of callbacks
        faiss.write_index(index, module.PyCallbackIOWriter(write))

    def read(self, file: BinaryIO, vectors: FloatMatrix) -> Any:
        """As it was saved."""
        import faiss

        module: Any = faiss
        return faiss.read_index(module.PyCallbackIOReader(file.read))


def _lists(count: int) -> int:
    return max(1, int(_LISTS * count**0.5))
