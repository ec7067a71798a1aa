"""What was measured of collections: the constants of a plan, by ``python -m benchmarks.sizing``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from encoder_tools.io.files import checked_as, read_json

MEASURED = Path(__file__).with_name("measurements.json")


@dataclass(frozen=True)
class Measurement:
    """A collection that was built and searched.

    :ivar engine: "folder" or "postgresql"; ``storage`` of its vectors.
    :ivar words: of a text, and ``text_bytes``.
    :ivar held_out: whether the plan is checked by it instead of fitted on it.
    :ivar store_s: seconds to write documents with their vectors; ``build_s`` to make the graph afterwards.
    :ivar peak_bytes: of memory meanwhile; None where another process did it.
    :ivar resident_bytes: of memory once it is searched; of a server, its graph.
    :ivar search_ms: median of a search for ten by a vector; ``hybrid_ms`` with words too.
    :ivar recall: that the index was measured to have.
    """

    engine: str
    storage: str
    documents: int
    dim: int
    words: int
    text_bytes: int
    store_s: float
    build_s: float
    peak_bytes: int | None
    disk_bytes: int
    resident_bytes: int
    search_ms: float
    hybrid_ms: float
    recall: float | None
    date: str
    held_out: bool = False


@dataclass(frozen=True)
class EncodingSpeed:
    """How fast a model embeds on one core.

    :ivar text_bytes: of the texts, and ``tokens`` in them.
    :ivar texts_per_s: in one second.
    """

    model: str
    text_bytes: int
    tokens: float
    texts_per_s: float
    date: str


class Measurements(msgspec.Struct, frozen=True):
    """All that were made, and on what.

    :ivar machine: cores and versions.
    """

    machine: dict[str, Any]
    rows: list[Measurement]
    encoding: list[EncodingSpeed] = msgspec.field(default_factory=list)


def read_measurements(path: Path = MEASURED) -> Measurements:
    """What ships with the package.

    :raises FileCorruptError: if the file is damaged.
    """
    return checked_as(read_json(path), Measurements, str(path))
