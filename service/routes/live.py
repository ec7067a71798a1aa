"""``GET /v1/stats``: load during the last minute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.http.endpoints import Context, Endpoint

_WINDOW = 60.0


@dataclass(frozen=True)
class ModelStats:
    """A model's queue: tokens that wait, its speed in padded tokens per second, and its batches' size in tokens."""

    queue_tokens: int
    speed: float
    batch_tokens: int


@dataclass(frozen=True)
class Stats:
    """The last minute's requests that a model was asked for.

    :ivar latency_ms: percentiles by name ("p50", "p90", "p99"); empty where there were none.
    """

    window_seconds: float
    requests: int
    requests_per_second: float
    tokens_per_second: float
    errors: int
    under_way: int
    latency_ms: dict[str, float]
    models: dict[str, ModelStats]


async def stats(context: Context, _: None) -> Stats:
    """Throughput, latency and queue of the last minute."""
    state = context.state
    recent = state.metrics.recent(_WINDOW)
    seconds = np.array([one.seconds for one in recent])
    names = ("p50", "p90", "p99")
    percentiles = np.percentile(seconds, (50, 90, 99)) if recent else ()
    models = {
        name: ModelStats(engine.waiting_tokens, engine.costs.speed, engine.costs.budget)
        for name, engine in ((name, model.embedder.engine) for name, model in state.registry.models.items())
    }
    return Stats(
        _WINDOW,
        len(recent),
        len(recent) / _WINDOW,
        sum(one.tokens for one in recent) / _WINDOW,
        sum(one.status >= 400 for one in recent),
        state.under_way,
        {name: round(1000 * float(value), 3) for name, value in zip(names, percentiles, strict=False)},
        models,
    )


ENDPOINTS = (Endpoint("GET", "/v1/stats", stats, "Server", None, Stats, missing=False, inference=False),)
