"""Batching across requests: one fair queue per model, drained by the threads that run it."""

from __future__ import annotations

from service.batching.cost_model import Costs
from service.batching.engine import Computed, Computes, DeadlineError, Engine, StoppedError, Timing
from service.batching.jobs import Batch, Flow, Job, QueueFullError
from service.batching.scheduler import FairQueue, QueueLimits

__all__ = [
    "Batch",
    "Computed",
    "Computes",
    "Costs",
    "DeadlineError",
    "Engine",
    "FairQueue",
    "Flow",
    "Job",
    "QueueFullError",
    "QueueLimits",
    "StoppedError",
    "Timing",
]
