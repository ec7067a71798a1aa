"""``plan_capacity``: machines, hours and cost for a number of documents, on each engine and storage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from encoder_tools.errors import InputError
from index.sizing.estimates import Estimate, fitted
from index.sizing.measurements import EncodingSpeed, Measurements, read_measurements

USED_MEMORY, USED_CPU, USED_DISK = 0.75, 0.6, 0.7
"""Share of a machine that a plan uses; the rest is for the system, for peaks, and for a new copy of a file."""
_QUERY_BYTES = 40


@dataclass(frozen=True)
class Workload:
    """What is to be held and answered.

    :ivar documents: how many, each chunk counted.
    :ivar dim: width of their vectors.
    :ivar text_bytes: of a text, in the middle.
    :ivar qps: searches per second.
    :ivar recall: share of the true nearest that searches should find.
    :ivar hybrid: whether searches go by words too.
    """

    documents: float
    dim: int = 384
    text_bytes: float = 500
    qps: float = 10
    recall: float = 0.95
    hybrid: bool = False

    def __post_init__(self) -> None:
        """Check every number.

        :raises InputError: naming the first that is out of range.
        """
        for name, least, most in (("documents", 1, 1e12), ("dim", 1, 65_536), ("text_bytes", 1, 1e9),
                                  ("qps", 0, 1e9), ("recall", 0, 1)):  # fmt: skip
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} is {value:g}, expected a number from {least:g} to {most:g}.")


@dataclass(frozen=True)
class MachineKind:
    """What machines there are.

    :ivar memory: bytes, ``disk`` bytes, ``cores``.
    :ivar price: for an hour, in any currency; None if it is not known.
    :ivar texts_per_s: that the model embeds on one core; None for the default model by the length of the texts.
    """

    memory: float = 64 * 2**30
    disk: float = 2 * 2**40
    cores: int = 16
    price: float | None = None
    texts_per_s: float | None = None


class Capacity(NamedTuple):
    """What one engine and storage need.

    :ivar memory_bytes: of one copy that answers searches, and ``peak_bytes`` while its graph is built (None: unknown).
    :ivar store_hours: to write the documents, ``build_hours`` to make the graph, as on the machine that was measured.
    :ivar search_ms: of one search on an idle core.
    :ivar parts: machines that one copy of the data takes; ``machines`` altogether, for the searches per second.
    :ivar hourly: cost of these; None without a price. So is ``embed_cost``.
    :ivar embed_core_hours: to embed all documents once.
    :ivar notes: what is not known, or does not hold.
    """

    engine: str
    storage: str
    memory_bytes: float
    peak_bytes: float | None
    disk_bytes: float
    store_hours: float
    build_hours: float
    search_ms: float
    parts: int
    machines: int
    hourly: float | None
    embed_core_hours: float
    embed_cost: float | None
    notes: tuple[str, ...]


def plan_capacity(
    workload: Workload, machine: MachineKind | None = None, measurements: Measurements | None = None
) -> list[Capacity]:
    """What a workload needs, for each engine and storage that was measured.

    :param machine: that there are.
    :param measurements: None takes those that ship with the package.

    Example:
        >>> from index.sizing import Workload, plan_capacity
        >>> [option.machines for option in plan_capacity(Workload(1e6)) if option.storage == "int8"]
        [1]
    """
    known, kind = measurements or read_measurements(), machine or MachineKind()
    rows = [row for row in known.rows if not row.held_out]
    pairs = dict.fromkeys((row.engine, row.storage) for row in rows)
    return [_capacity(workload, kind, fitted(rows, *pair), known.encoding) for pair in pairs]


def _capacity(
    workload: Workload, machine: MachineKind, estimate: Estimate, speeds: Sequence[EncodingSpeed]
) -> Capacity:
    size = workload.documents, workload.dim, workload.text_bytes
    memory, disk = estimate.of("resident_bytes", *size), estimate.of("disk_bytes", *size)
    # far beyond what was measured the two terms drift apart, but the collection is there while its graph is built
    peak = max(memory, estimate.of("peak_bytes", *size)) if "peak_bytes" in estimate.weights else None
    parts = max(math.ceil(memory / (USED_MEMORY * machine.memory)), math.ceil(disk / (USED_DISK * machine.disk)), 1)
    each = (workload.documents / parts, *size[1:])
    search = estimate.of("hybrid_ms" if workload.hybrid else "search_ms", *each)
    embed_s = 1 / (machine.texts_per_s or texts_per_second(speeds, _QUERY_BYTES))
    # every part answers every search; the text of a search is embedded once
    busy = workload.qps * (parts * search / 1000 + embed_s)
    machines = max(parts, parts * math.ceil(busy / (parts * machine.cores * USED_CPU)))
    embed = workload.documents / (machine.texts_per_s or texts_per_second(speeds, workload.text_bytes)) / 3600
    price = machine.price
    return Capacity(
        *(estimate.engine, estimate.storage, memory, peak, disk),
        *(estimate.of("store_s", *size) / 3600, estimate.of("build_s", *size) / 3600, search, parts, machines),
        None if price is None else price * machines,
        embed,
        None if price is None else price * embed / machine.cores,
        tuple(_notes(workload, machine, estimate, parts, peak)),
    )


def _notes(workload: Workload, machine: MachineKind, estimate: Estimate, parts: int, peak: float | None) -> list[str]:
    notes = []
    if parts > 1 and estimate.engine == "folder":
        notes.append(f"does not fit: a folder is on one machine, and this needs {parts} of them; split it by a field")
    elif parts > 1:
        notes.append(f"needs {parts} servers, by partitions or Citus, which was not measured")
    if peak is not None and peak / parts > machine.memory:
        notes.append("building the graph takes more memory than a machine has")
    if estimate.storage == "binary":
        notes.append("where one bit a number misses the recall, int8 is taken, with its memory; both are built then")
    if workload.documents > 2 * estimate.largest:
        times = workload.documents / estimate.largest
        notes.append(f"extrapolated {times:,.0f} times from {estimate.largest:,} documents")
    if estimate.recall is not None and workload.recall > max(estimate.recall, 0.95):
        notes.append(f"recall above {max(estimate.recall, 0.95):.2f} costs more time than this, which was not measured")
    return notes


def texts_per_second(speeds: Sequence[EncodingSpeed], text_bytes: float) -> float:
    """How fast the default model embeds texts of a length on one core, between those that were measured.

    Longer texts than the longest are cut by the model, and take no longer.

    :raises InputError: if nothing was measured.
    """
    if not speeds:
        raise InputError("The speed of the model was not measured. Say it: --texts-per-second.")
    ordered = sorted(speeds, key=lambda speed: speed.text_bytes)
    seconds = np.interp(text_bytes, [one.text_bytes for one in ordered], [1 / one.texts_per_s for one in ordered])
    return float(1 / seconds)
