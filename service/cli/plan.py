"""``encoder-tools plan``: what a number of documents needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from service.cli.options import gathered

if TYPE_CHECKING:
    from index.sizing import Capacity, Workload

_DECADES = tuple(10.0**power for power in range(4, 11))


def COUNT(value: str) -> float:  # noqa: N802 - a type of click's, as click.INT is
    """A number as people write large ones: 1e9, 1_000_000."""
    return float(value)


@dataclass(frozen=True)
class MachineOptions:
    """Machines that there are."""

    memory_gib: float
    disk_gib: float
    cores: int
    price: float | None
    texts_per_second: float | None


@dataclass(frozen=True)
class WorkloadOptions:
    """What is to be held and answered."""

    documents: float
    dim: int
    text_bytes: float
    qps: float
    recall: float
    hybrid: bool


@click.command("plan")
@click.option("--documents", type=COUNT, required=True, help="How many, each chunk counted: 1e9.")
@click.option("--dim", type=click.IntRange(1, 65536), default=384, show_default=True, help="Width of the vectors.")
@click.option("--text-bytes", type=COUNT, default=500, show_default=True, help="Of a text.")
@click.option("--qps", type=COUNT, default=10, show_default=True, help="Searches per second.")
@click.option("--recall", type=float, default=0.95, show_default=True, help="That searches should have.")
@click.option("--hybrid", is_flag=True, help="Searches go by words too.")
@click.option("--memory-gib", type=COUNT, default=64, show_default=True, help="Of one machine.")
@click.option("--disk-gib", type=COUNT, default=2048, show_default=True, help="Of one machine.")
@click.option("--cores", type=click.IntRange(min=1), default=16, show_default=True, help="Of one machine.")
@click.option("--price", type=float, help="Of one machine for an hour.  [default: no costs]")
@click.option("--texts-per-second", type=float, help="Of your model on one core.  [default: the default model's]")
@click.option("--growth", is_flag=True, help="Also a line for each power of ten up to 1e10.")
@click.option("--json", "as_json", is_flag=True, help="Numbers in base units, as JSON.")
@gathered(WorkloadOptions, "wants")
@gathered(MachineOptions, "has")
def command(wants: WorkloadOptions, has: MachineOptions, growth: bool, as_json: bool) -> None:
    """Estimate memory, disk, machines, hours and cost for a number of documents.

    The estimates are fitted to what was measured of smaller collections (python -m benchmarks.sizing), on two cores of
    one machine; what is extrapolated, or not known, is said. Times are those of such cores.
    """
    from index.sizing import MachineKind, Workload, plan_capacity
    from index.sizing.measurements import read_measurements

    machine = MachineKind(has.memory_gib * 2**30, has.disk_gib * 2**30, has.cores, has.price, has.texts_per_second)
    workload = Workload(wants.documents, wants.dim, wants.text_bytes, wants.qps, wants.recall, wants.hybrid)
    sizes = [*(size for size in _DECADES if growth), workload.documents]
    planned = [(size, plan_capacity(_of_size(workload, size), machine)) for size in sizes]
    if as_json:
        lines = [{"documents": size, **option._asdict()} for size, options in planned for option in options]
        click.echo(json.dumps({"machine": read_measurements().machine, "options": lines}, indent=2))
        return
    for size, options in planned:
        click.echo("\n".join(_table(size, options)))
    dates = sorted({row.date for row in read_measurements().rows})
    click.echo(
        f"Fitted to measurements of {dates[0]} to {dates[-1]}. Not known: your network and disks, other work on the "
        "machines, filters of your own, replicas for failures (add one machine per part)."
    )


def _of_size(workload: Workload, documents: float) -> Workload:
    from dataclasses import replace

    return replace(workload, documents=documents)


def _table(size: float, options: Sequence[Capacity]) -> list[str]:
    lines = [
        f"{size:,.0f} documents; embedding them takes {_hours(options[0].embed_core_hours)} of one core"
        + (f", {options[0].embed_cost:,.2f}" if options[0].embed_cost is not None else ""),
        f"  {'engine':<11}{'storage':<9}{'memory':>10}{'peak':>10}{'disk':>10}{'write':>9}{'build':>9}{'search':>10}"
        f"{'machines':>10}{'an hour':>10}",
    ]
    for option in options:
        cost = "" if option.hourly is None else f"{option.hourly:,.2f}"
        lines.append(
            f"  {option.engine:<11}{option.storage:<9}{_bytes(option.memory_bytes):>10}{_bytes(option.peak_bytes):>10}"
            f"{_bytes(option.disk_bytes):>10}{_hours(option.store_hours):>9}{_hours(option.build_hours):>9}"
            f"{option.search_ms:>7.1f} ms{option.machines:>10,}{cost:>10}"
        )
        lines.extend(f"      {note}" for note in option.notes)
    return lines


def _bytes(value: float | None) -> str:
    if value is None:
        return "not known"
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 1000 or unit == "PB":
            return f"{value:.3g} {unit}"
    raise AssertionError


def _hours(value: Any) -> str:
    seconds = 3600 * float(value)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.0f} h"
