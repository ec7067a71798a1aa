"""Our histogram is prometheus_client's, only cheaper."""

from __future__ import annotations

import random

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest

from service.observability.histogram import Histogram

BOUNDS = (0.001, 0.5, 1, 16)


def test_its_text_is_what_prometheus_client_writes():
    chance = random.Random(3)
    mine, theirs = CollectorRegistry(), CollectorRegistry()
    own = Histogram("seconds", "Of a thing.", "route", BOUNDS)
    mine.register(own)
    other = prometheus_client.Histogram("seconds", "Of a thing.", ["route"], buckets=BOUNDS, registry=theirs)
    values = [*BOUNDS, 0.0, 17.0, *(chance.expovariate(1.0) for _ in range(200))]
    for value in values:
        route = chance.choice(["/a", "/b"])
        own.observe(route, value)
        other.labels(route).observe(value)

    def lines(registry: CollectorRegistry) -> list[str]:
        return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)

    assert lines(mine) == lines(theirs)
