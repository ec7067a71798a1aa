"""Figures for Prometheus: requests, queue, batches, padding, time by stage, and the provider in use."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.observability.histogram import Histogram as LocalHistogram

if TYPE_CHECKING:
    from service.batching import Batch, Engine

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2, 4, 8, 16, 32)
_REMEMBERED = 20_000
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Answered(NamedTuple):
    """A request that is over: when, after how many seconds, with how many tokens and which status."""

    at: float
    seconds: float
    tokens: int
    status: int


class Metrics:
    """One server's figures, in a registry of its own: two servers in a process do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._recent: deque[Answered] = deque(maxlen=_REMEMBERED)
        self._requests = Counter(
            "encoder_tools_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._answers: dict[tuple[str, int], Counter] = {}
        self._duration = LocalHistogram(
            "encoder_tools_request_seconds", "From a request's head to its answer.", "route", _SECONDS
        )
        self._stages = LocalHistogram("encoder_tools_stage_seconds", "Time of a request by stage.", "stage", _SECONDS)
        for histogram in (self._duration, self._stages):
            self._registry.register(histogram)
        self._tokens = Counter(
            "encoder_tools_tokens", "Tokens computed, without padding.", ["model"], registry=self._registry
        )
        self._padded = Counter(
            "encoder_tools_padded_tokens", "Tokens computed, with padding.", ["model"], registry=self._registry
        )
        self._batches = Histogram(
            "encoder_tools_batch_tokens",
            "Padded tokens of a batch.",
            ["model", "provider"],
            buckets=_TOKENS,
            registry=self._registry,
        )
        self._inference = Histogram(
            "encoder_tools_batch_seconds", "Time of a batch.", ["model"], buckets=_SECONDS, registry=self._registry
        )
        self._queue = Gauge("encoder_tools_queue_tokens", "Tokens that wait.", ["model"], registry=self._registry)
        self._speed = Gauge(
            "encoder_tools_speed_tokens", "Padded tokens per second, as estimated.", ["model"], registry=self._registry
        )
        self._padding = Gauge(
            "encoder_tools_padding_share", "Share of padding in what was computed.", ["model"], registry=self._registry
        )
        self._provider = Gauge(
            "encoder_tools_provider_info", "Provider in use, always 1.", ["model", "provider"], registry=self._registry
        )
        self._collections = Gauge(
            "encoder_tools_collection_up",
            "Whether what holds a collection can be reached.",
            ["collection", "engine"],
            registry=self._registry,
        )
        self._under_way = Gauge(
            "encoder_tools_requests_under_way", "Requests that have come and are not answered.", registry=self._registry
        )

    def collections(self, reached: Mapping[str, tuple[str, bool]]) -> None:
        """Show of each collection which engine holds it, and whether that can be reached."""
        self._collections.clear()
        for name, (engine, up) in reached.items():
            self._collections.labels(name, engine).set(up)

    def watch(self, model: str, engine: Engine, provider: str) -> None:
        """Show a model's queue."""
        self._provider.labels(model, provider).set(1)
        self._queue.labels(model).set_function(lambda: engine.waiting_tokens)
        self._speed.labels(model).set_function(lambda: engine.costs.speed)
        tokens, padded = self._tokens.labels(model), self._padded.labels(model)
        self._padding.labels(model).set_function(lambda: _share(_value(tokens), _value(padded)))

    def watch_requests(self, under_way: Callable[[], int]) -> None:
        """Show how many requests are under way."""
        self._under_way.set_function(under_way)

    def batches_of(self, model: str, provider: str) -> Callable[[Batch, float], None]:
        """What an engine calls with each batch and its seconds."""
        tokens, padded = self._tokens.labels(model), self._padded.labels(model)
        sizes, seconds_taken = self._batches.labels(model, provider), self._inference.labels(model)

        def observe(batch: Batch, seconds: float) -> None:
            tokens.inc(batch.tokens)
            padded.inc(batch.padded)
            sizes.observe(batch.padded)
            seconds_taken.observe(seconds)

        return observe

    def answered(self, route: str, status: int, seconds: float, stages: dict[str, float], tokens: int = 0) -> None:
        """A request is over."""
        if "inference" in stages:
            self._recent.append(Answered(time.monotonic(), seconds, tokens, status))
        answers = self._answers.get((route, status))
        if answers is None:
            answers = self._answers[route, status] = self._requests.labels(route, str(status))
        answers.inc()
        self._duration.observe(route, seconds)
        for stage, took in stages.items():
            self._stages.observe(stage, took)

    def recent(self, seconds: float = 60.0) -> list[Answered]:
        """The requests of the last minute that a model was asked for."""
        since = time.monotonic() - seconds
        return [one for one in self._recent if one.at >= since]

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


def _value(counter: Counter) -> float:
    return float(next(sample.value for sample in next(iter(counter.collect())).samples))


def _share(tokens: float, padded: float) -> float:
    return 1 - tokens / padded if padded else 0.0
