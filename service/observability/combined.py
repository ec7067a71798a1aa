"""Metrics of several workers on one port: whoever is asked answers for all, each sample with its worker's number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample


def leave(folder: Path, worker: int, text: bytes) -> None:
    """Leave a worker's metrics where the others find them; not flushed to disk, for which the event loop would wait."""
    temporary = folder / f"{worker}.tmp"
    temporary.write_bytes(text)
    temporary.replace(folder / f"{worker}.prom")


def combined(folder: Path, worker: int, text: bytes) -> bytes:
    """The metrics of all workers in Prometheus' text format; of others as they left them, a second ago at most.

    :param worker: who is asked, and ``text``, its own.
    """
    parts = {int(path.stem): path.read_bytes() for path in folder.glob("*.prom")} | {worker: text}
    registry = CollectorRegistry()
    registry.register(_Parts(parts))
    return generate_latest(registry)


class _Parts(Collector):
    def __init__(self, parts: dict[int, bytes]) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for worker, text in sorted(self._parts.items()):
            for family in text_string_to_metric_families(text.decode()):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known.samples += [_labeled(sample, worker) for sample in family.samples]
        return families.values()


def _labeled(sample: Sample, worker: int) -> Sample:
    return sample._replace(labels={**sample.labels, "worker": str(worker)})
