"""Bodies of maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from service.schemas.common import Text


@dataclass(frozen=True)
class MapColours:
    """What the points are colored by.

    :ivar field: of the metadata.
    :ivar codes: base64 of one byte per point: its place in ``labels``, or between ``least`` and ``most`` (0 to 254);
        255 where it has no such field.
    :ivar labels: the most frequent values, "other" last if there are more; None where values are numbers.
    """

    field: str
    codes: str
    labels: list[str] | None
    least: float | None
    most: float | None


@dataclass(frozen=True)
class CollectionMap:
    """``GET /v1/collections/{name}/map``: where each document lies, once that has been computed.

    :ivar x: base64 of little-endian uint16, from the left end to the right; ``y`` likewise, upwards.
    :ivar fields: of the metadata, by which the points can be colored.
    """

    status: Literal["computing", "ready"]
    count: int = 0
    ids: list[str | int] | None = None
    x: str = ""
    y: str = ""
    fields: list[str] | None = None
    colours: MapColours | None = None


class PlaceRequest(msgspec.Struct, frozen=True):
    """``POST /v1/collections/{name}/map/place``: where a query would lie."""

    query: Text


@dataclass(frozen=True)
class Placed:
    """In the units of the map: 0 to 65,535 for what lies within it."""

    x: float
    y: float
