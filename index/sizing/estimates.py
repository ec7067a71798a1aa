"""What a collection of any size needs, by fitting what was measured of smaller ones.

Bytes grow in proportion to the documents, to the numbers of their vectors and to the length of their texts; the time to
build a graph grows with n log n, and that of a search with log n. Terms have no negative weights, so that an estimate
never falls with the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from encoder_tools.errors import InputError
from index.sizing.measurements import Measurement

Terms = Callable[[float, float, float], tuple[float, ...]]
"""Takes documents, width and bytes of a text."""


def _in_proportion(n: float, dim: float, text: float) -> tuple[float, ...]:
    return 1.0, n, n * dim, n * text


def _graph(n: float, dim: float, _text: float) -> tuple[float, ...]:
    return 1.0, n * math.log2(n), n * dim * math.log2(n)


def _at_the_peak(n: float, dim: float, text: float) -> tuple[float, ...]:
    """What is held beside the collection, a batch of vectors for instance, grows with their width alone, or slower
    than the collection.
    """
    return 1.0, dim, math.sqrt(n) * dim, n, n * dim, n * text


def _search(n: float, dim: float, _text: float) -> tuple[float, ...]:
    return 1.0, math.log2(n), dim, dim * math.log2(n)


def _words(n: float, dim: float, text: float) -> tuple[float, ...]:
    return 1.0, math.log2(n), dim, n, n * text


QUANTITIES: Mapping[str, Terms] = {
    "store_s": _in_proportion,
    "build_s": _graph,
    "peak_bytes": _at_the_peak,
    "disk_bytes": _in_proportion,
    "resident_bytes": _in_proportion,
    "search_ms": _search,
    "hybrid_ms": _words,
}
"""Fields of a measurement, and what they grow with."""


@dataclass(frozen=True)
class Estimate:
    """What collections of an engine and a storage need.

    :ivar weights: of the terms of each quantity.
    :ivar largest: documents of the largest collection that was measured.
    :ivar recall: the lowest that was measured; None where none was.
    """

    engine: str
    storage: str
    weights: Mapping[str, tuple[float, ...]]
    largest: int
    recall: float | None

    def of(self, quantity: str, documents: float, dim: int, text_bytes: float) -> float:
        """One quantity, in its unit.

        :raises InputError: if it was not measured for this engine.
        """
        if quantity not in self.weights:
            raise InputError(f"{quantity} of {self.engine} was not measured.")
        terms = QUANTITIES[quantity](max(2.0, documents), dim, text_bytes)
        return sum(weight * term for weight, term in zip(self.weights[quantity], terms, strict=True))


def fitted(rows: Sequence[Measurement], engine: str, storage: str) -> Estimate:
    """The estimate for an engine and a storage.

    :raises InputError: if nothing was measured of them.
    """
    own = [row for row in rows if (row.engine, row.storage) == (engine, storage)]
    if not own:
        known = ", ".join(sorted({f"{row.engine} {row.storage}" for row in rows}))
        raise InputError(f"{engine} {storage} was not measured, only {known}.")
    weights = {}
    for name, terms in QUANTITIES.items():
        values = [getattr(row, name) for row in own]
        if None not in values:
            matrix = [terms(row.documents, row.dim, row.text_bytes) for row in own]
            weights[name] = _weights(matrix, values, [row.documents for row in own])
    recalls = [row.recall for row in own if row.recall is not None]
    return Estimate(engine, storage, weights, max(row.documents for row in own), min(recalls) if recalls else None)


def _weights(terms: Sequence[Sequence[float]], values: Sequence[float], documents: Sequence[int]) -> tuple[float, ...]:
    """Least squares of the errors in proportion to the values, without negative weights.

    Larger collections count more, because a plan is of larger ones: of small ones much is what they all have.
    """
    from scipy.optimize import nnls

    matrix, target = np.array(terms, dtype=np.float64), np.maximum(np.array(values, dtype=np.float64), 1e-9)
    scale = np.abs(matrix).max(axis=0)  # terms differ by many powers of ten
    importance = np.sqrt(np.array(documents) / max(documents))
    solution, _ = nnls(importance[:, None] * matrix / scale / target[:, None], importance)
    return tuple((solution / scale).tolist())
