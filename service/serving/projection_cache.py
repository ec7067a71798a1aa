"""Projections of collections, computed in the background and cached until the collection changes."""

from __future__ import annotations

import asyncio
import base64
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index import Collection
from index.query.projection import Projection
from service.schemas.maps import CollectionMap, MapColours, Placed
from service.serving.registry import Shared

_FULL = 65_535
_MOST_LABELS = 11
_MOST_FIELDS = 40
_NONE = 255


class Maps:
    """The maps of one server's collections, forgotten with them."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[Shared[Collection], Projection] = WeakKeyDictionary()
        self._tasks: dict[Shared[Collection], asyncio.Task[None]] = {}

    async def of(self, shared: Shared[Collection]) -> Projection | None:
        """The map of a collection, or None while it is computed; an older one serves until the next is there."""
        with shared.used() as collection:
            sequence = await asyncio.to_thread(lambda: collection.sequence)
        projection = self._made.get(shared)
        if shared not in self._tasks and (projection is None or projection.sequence != sequence):
            self._tasks[shared] = asyncio.create_task(self._make(shared))
        return projection

    async def _make(self, shared: Shared[Collection]) -> None:
        try:
            with shared.used() as collection:
                self._made[shared] = await asyncio.to_thread(collection.projection)
        finally:
            del self._tasks[shared]


def written(projection: Projection, field: str | None) -> CollectionMap:
    """A map as it is sent.

    :param field: to colour by; one that no document has colours nothing.
    """
    x, y = (_squeezed(projection, axis) for axis in (0, 1))
    return CollectionMap(
        "ready",
        len(projection.ids),
        projection.ids,
        _base64(x.astype("<u2")),
        _base64(y.astype("<u2")),
        _fields(projection.metadata),
        None if field is None else _colors(projection.metadata, field),
    )


def placed(projection: Projection, vectors: FloatMatrix) -> Placed:
    """Where a vector (1, dim) lies on the map that :func:`written` sends."""
    point = projection.place(vectors)[0]
    return Placed(*(float(_scaled(projection, axis, point[axis : axis + 1])[0]) for axis in (0, 1)))


def _squeezed(projection: Projection, axis: int) -> NDArray[np.float64]:
    return np.clip(np.rint(_scaled(projection, axis, projection.points[:, axis])), 0, _FULL)


def _scaled(projection: Projection, axis: int, values: NDArray[np.float32]) -> NDArray[np.float64]:
    column = projection.points[:, axis]
    least, most = (float(column.min()), float(column.max())) if len(column) else (0.0, 1.0)
    return (values.astype(np.float64) - least) / max(most - least, 1e-12) * _FULL


def _fields(metadata: Sequence[dict[str, Any]]) -> list[str]:
    """Fields of plain values, the most frequent first."""
    plain = (str | int | float | bool,)
    counts = Counter(name for one in metadata for name, value in one.items() if isinstance(value, plain))
    return [name for name, _ in counts.most_common(_MOST_FIELDS)]


def _colors(metadata: Sequence[dict[str, Any]], field: str) -> MapColours:
    values = [one.get(field) for one in metadata]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) > len(values) / 2 and len(set(numbers)) > _MOST_LABELS:
        return _by_number(field, values, numbers)
    named = [None if value is None or isinstance(value, dict | list) else str(value) for value in values]
    common = [name for name, _ in Counter(filter(None, named)).most_common(_MOST_LABELS + 1)]
    labels = common if len(common) <= _MOST_LABELS else [*common[:_MOST_LABELS], "other"]
    codes = {name: code for code, name in enumerate(labels)}
    rest = codes.get("other", _NONE)
    colors = bytes(_NONE if name is None else codes.get(name, rest) for name in named)
    return MapColours(field, base64.b64encode(colors).decode(), labels, None, None)


def _by_number(field: str, values: Sequence[Any], numbers: Sequence[float]) -> MapColours:
    finite = [number for number in numbers if math.isfinite(number)] or [0.0]
    least, most = float(min(finite)), float(max(finite))
    width = (most - least) or 1.0
    codes = bytes(
        min(_NONE - 1, max(0, round((float(value) - least) / width * (_NONE - 1))))
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        else _NONE
        for value in values
    )
    return MapColours(field, base64.b64encode(codes).decode(), None, least, most)


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()
