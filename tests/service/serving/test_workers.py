"""``serve --workers``: several processes on one port, as if they were one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from encoder_tools import OnnxEncoder
from encoder_tools.machine.processor import this_processor
from index import Collection
from service.batching import QueueLimits
from service.serving.state import Limits
from service.workers import WorkerPlace
from tests.serving import COMMAND, ROOT, Started, started
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or this_processor().cores < 2, reason="needs Linux and two cores"
)


def workers_of(server: Started) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def pids_of(server: Started) -> set[int]:
    return {worker.pid for worker in workers_of(server)}


def numbers(server: Started) -> set[str]:
    """Of the workers whose metrics are told."""
    text = httpx.get(f"{server.url}/metrics").text
    return {line.partition('worker="')[2][0] for line in text.splitlines() if 'worker="' in line}


def embed(url: str, text: str = "a card") -> int:
    return httpx.post(f"{url}/v1/embeddings", json={"model": "default", "input": text}, timeout=30).status_code


def test_all_of_them_serve_and_end_together():
    with started("serve", "--workers", "2") as server:
        until(lambda: numbers(server) == {"0", "1"})
        assert [embed(server.url, f"text {number}") for number in range(40)] == [200] * 40
        until(lambda: _requests(server) >= 40)
        assert len(workers := workers_of(server)) == 2
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert not any(worker.is_running() and worker.status() != "zombie" for worker in workers)


def _requests(server: Started) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("encoder_tools_requests_total") and "/v1/embeddings" in line]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def test_one_that_dies_is_replaced():
    with started("serve", "--workers", "2", "--no-access-log") as server:
        until(lambda: numbers(server) == {"0", "1"})
        first, second = workers_of(server)
        for victim in (first, second):
            victim.kill()
            until(lambda gone=victim.pid: len(pids := pids_of(server)) == 2 and gone not in pids)
            until(lambda: _answers(server.url))
        assert [embed(server.url, f"text {number}") for number in range(20)] == [200] * 20


def _answers(url: str) -> bool:
    try:
        return [embed(url) for _ in range(10)] == [200] * 10
    except httpx.TransportError:  # a connection that the dead one had
        return False


def test_they_end_with_the_first_process():
    with started("serve", "--workers", "2") as server:
        until(lambda: numbers(server) == {"0", "1"})
        workers = workers_of(server)
        server.process.kill()
        until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


def test_a_reload_reaches_all(tmp_path: Path):
    file = tmp_path / "serve.toml"
    file.write_text("[models.m]\n")
    with started("serve", "--config", str(file), "--workers", "2") as server:
        until(lambda: numbers(server) == {"0", "1"})
        Collection.create(tmp_path / "c", OnnxEncoder()).close()
        file.write_text('[models.m]\n[collections.c]\npath = "c"\n')
        assert httpx.post(f"{server.url}/admin/reload", timeout=30).json()["collections"] == ["c"]

        def all_know() -> bool:
            answers = [httpx.post(f"{server.url}/search", json={"query": "a"}, timeout=30) for _ in range(20)]
            return all(answer.status_code == 200 for answer in answers)

        until(all_know)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2", "--data", "x"], "--data makes collections in one process"),
        (["--workers", "100000"], "are more than the"),
        (["--workers", "2", "--model", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_is_said_once(arguments: list[str], message: str):
    done = subprocess.run(
        [*COMMAND, "serve", "--port", "0", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (1, 2)
    assert done.stderr.count(message) == 1, done.stderr


def test_all_together_admit_what_one_would():
    limits = Limits(queue=QueueLimits(max_wait=3))
    for count in (1, 2, 3, 32):
        part = limits.divided(count)
        assert part.queue.max_wait == 3
        assert count * part.queue.max_tokens <= max(limits.queue.max_tokens, count * limits.max_tokens)
        assert part.held_bytes >= part.max_body_bytes  # the largest request that is allowed is admitted
        assert part.queue.max_tokens >= part.max_tokens


def test_a_process_that_is_no_worker_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ENCODER_TOOLS_WORKER", raising=False)
    assert WorkerPlace.mine() is None
    monkeypatch.setenv(
        "ENCODER_TOOLS_WORKER", '{"number": 1, "count": 2, "host": "h", "port": 1, "alive": 0, "folder": ""}'
    )
    assert WorkerPlace.mine() == WorkerPlace(1, 2, "h", 1, 0, "")
    assert "ENCODER_TOOLS_WORKER" not in os.environ  # what this process starts is none
