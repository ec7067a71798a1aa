"""``serve --workers``: measured on this machine, and simulated for machines with more cores.

    python -m benchmarks.workers

The simulation runs the scheduler itself (:class:`service.batching.scheduler.FairQueue`) with a clock of its own. Its
constants are measured here: what a batch costs on one core, and what a request costs the event loop, where one runs at
a time; both need a core. The servers that were measured say how far to believe it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import statistics
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.load.client import closed_loop, embedding_bodies
from benchmarks.load.servers import ours
from benchmarks.serve_startup import machine
from encoder_tools.io.files import write_json
from encoder_tools.machine.processor import this_processor
from encoder_tools.runtime import OnnxEncoder
from service.batching.cost_model import Costs, measure
from service.batching.jobs import Batch, Flow, Job
from service.batching.scheduler import FairQueue

RESULT = Path(__file__).parent / "results" / "workers.json"
TEXTS = {"question": "Where is my card?", "paragraph": "Our branches are open on weekdays from nine to five. " * 12}
_CLIENTS, _LANE_BUDGET = 64, 256
_SIMULATED_S = 10.0


@dataclass
class Worker:
    """A simulated process.

    :ivar cores: that nothing runs on; the event loop takes one of them while it works.
    :ivar python: what the event loop has to do, which it does one after the other.
    """

    queue: FairQueue
    cores: int
    python: deque[Callable[[], None]] = field(default_factory=deque)
    in_python: bool = False


@dataclass
class Simulation:
    """Clients that each send the next request when they have their answer.

    :param python_s: that a request takes of an event loop, half before and half after it is computed.
    """

    workers: int
    cores: int
    costs: Costs
    python_s: float
    tokens: int
    clients: int
    seconds: float = _SIMULATED_S
    now: float = 0.0
    times: list[float] = field(default_factory=list)
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)

    def run(self) -> dict[str, float]:
        """Answers per second, and milliseconds."""
        draw = random.Random(0)
        workers = [Worker(FairQueue(self.costs), max(1, self.cores // self.workers)) for _ in range(self.workers)]
        for client in range(self.clients):
            self._send(client, draw.choice(workers))  # as the kernel hands connections out: by a hash
        while self.events and self.now < self.seconds:
            self.now, _, call = heapq.heappop(self.events)
            call()
        percentiles = statistics.quantiles(self.times, n=100)
        return {
            "requests_per_s": round(len(self.times) / self.now, 1),
            "p50_ms": round(1000 * percentiles[49], 2),
            "p99_ms": round(1000 * percentiles[98], 2),
        }

    def _at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self._order), call))

    def _on_loop(self, worker: Worker, call: Callable[[], None]) -> None:
        """Half of a request's Python, when the loop has time."""
        worker.python.append(call)
        self._dispatch(worker)

    def _dispatch(self, worker: Worker) -> None:
        """Give free cores something to do, the event loop first: lanes have a lower priority."""
        while worker.cores:
            if worker.python and not worker.in_python:
                worker.in_python, worker.cores = True, worker.cores - 1
                self._at(self.now + self.python_s / 2, partial(self._said, worker, worker.python.popleft()))
            elif (batch := worker.queue.take(self.now, _LANE_BUDGET)) is not None:
                worker.cores -= 1
                self._at(self.now + self.costs.seconds(batch.padded), partial(self._computed, worker, batch))
            else:
                return

    def _said(self, worker: Worker, call: Callable[[], None]) -> None:
        worker.in_python, worker.cores = False, worker.cores + 1
        call()
        self._dispatch(worker)

    def _send(self, client: int, worker: Worker) -> None:
        job = Job([[0] * self.tokens], Flow(client), owner=partial(self._answered, client, worker, self.now))
        self._on_loop(worker, partial(self._admitted, worker, job))

    def _admitted(self, worker: Worker, job: Job) -> None:
        worker.queue.admit(job, self.now)

    def _computed(self, worker: Worker, batch: Batch) -> None:
        worker.cores += 1
        worker.python.extend(job.owner for job in worker.queue.done(batch))
        self._dispatch(worker)

    def _answered(self, client: int, worker: Worker, begun: float) -> None:
        self.times.append(self.now - begun)
        self._send(client, worker)


def served(workers: int, text: str, seconds: float) -> dict[str, float]:
    """Real servers of this machine under the same clients, who share its cores with them."""
    bodies = embedding_bodies("m", [text] * 64, 1)
    with ours("default", workers=workers) as server:
        asyncio.run(closed_loop(server.url, server.path, bodies, _CLIENTS, 2.0))
        me = psutil.Process()
        before = sum(me.cpu_times()[:2])
        tally = asyncio.run(closed_loop(server.url, server.path, bodies, _CLIENTS, seconds))
        used = sum(me.cpu_times()[:2]) - before
    requests = len(tally.answers)
    return {
        "requests_per_s": round(tally.texts_per_second(), 1),
        "p50_ms": round(tally.percentile(50), 2),
        "p99_ms": round(tally.percentile(99), 2),
        "client_ms": round(1000 * used / requests, 4),
    }


def python_seconds(text: str) -> float:
    """What a request costs a server beside its model, on one core: its processor time, less that of the batches."""
    bodies = embedding_bodies("m", [text] * 64, 1)
    with ours("default", threads=1) as server:
        process = psutil.Process(server.pid)
        asyncio.run(closed_loop(server.url, server.path, bodies, 1, 1.0))
        before, batches = sum(process.cpu_times()[:2]), _batch_seconds(server.url)
        tally = asyncio.run(closed_loop(server.url, server.path, bodies, 1, 5.0))
        used = sum(process.cpu_times()[:2]) - before
        computed = _batch_seconds(server.url) - batches
    return max(1e-5, float(used - computed) / len(tally.answers))


def _batch_seconds(url: str) -> float:
    text: str = urllib.request.urlopen(f"{url}/metrics").read().decode()  # noqa: S310 - our own server
    sums: list[str] = [line for line in text.splitlines() if line.startswith("encoder_tools_batch_seconds_sum")]
    return sum(float(line.rpartition(" ")[2]) for line in sums)


@click.command()
@click.option("--seconds", default=8.0, show_default=True, help="Of each load.")
def main(seconds: float) -> None:
    """Measure, simulate, and write the result."""
    encoder = OnnxEncoder(threads=1)
    costs = measure(lambda ids: encoder.encode_tokens(ids, check=False), 5)
    result: dict[str, Any] = {"machine": machine(), "costs": vars(costs), "clients": _CLIENTS, "texts": {}}
    for name, text in TEXTS.items():
        tokens = len(encoder.tokenize([text], prompt="")[0])
        python_s = python_seconds(text)
        figures: dict[str, Any] = {"tokens": tokens, "python_ms": round(1000 * python_s, 4)}
        figures["measured"] = {workers: served(workers, text, seconds) for workers in (1, 2)}
        here = this_processor().cores
        figures["simulated"] = {
            f"{cores} cores, {workers} workers": Simulation(
                workers, cores, costs, python_s, tokens, _CLIENTS if cores == here else 16 * cores
            ).run()
            for cores in (here, 8, 32)
            for workers in (1, 2, 4, 8, 16, 32)
            if workers <= cores
        }
        result["texts"][name] = figures
        click.echo(f"{name}: {figures}")
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
