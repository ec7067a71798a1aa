"""The servers: ours, infinity, and FastAPI around sentence-transformers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PLAIN = Path(__file__).with_name("plain_server.py")
_PATIENCE = 120


@dataclass(frozen=True)
class Server:
    """A server that is ready.

    :ivar path: of its embeddings.
    :ivar model: the name that it gives its model.
    :ivar ready: seconds from its start to its first answer.
    """

    name: str
    url: str
    path: str
    model: str
    pid: int
    ready: float

    def rss(self) -> float:
        """Resident megabytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


@contextmanager
def ours(model: str, port: int = 18080, workers: int = 1, threads: int | None = None) -> Iterator[Server]:
    """``encoder-tools serve``."""
    command = [sys.executable, "-c", "from service.cli import main; main()", "serve", "--no-access-log"]
    command += ["--workers", str(workers)] if workers > 1 else []
    command += ["--threads", str(threads)] if threads is not None else []
    with _running([*command, "--model", f"m={model}", "--port", str(port)], f"http://127.0.0.1:{port}/ready") as server:
        yield Server("encoder-tools", f"http://127.0.0.1:{port}", "/v1/embeddings", "m", *server)


@contextmanager
def infinity(python: Path, folder: Path, port: int = 18081) -> Iterator[Server]:
    """Infinity's ONNX engine with mean pooling; ``folder`` holds a single model.onnx (its own loader wants that)."""
    command = [str(python.with_name("infinity_emb")), "v2", "--model-id", "./", "--served-model-name", "m"]
    command += ["--engine", "optimum", "--device", "cpu", "--url-prefix", "/v1", "--no-model-warmup"]
    command += ["--pooling-method", "mean", "--port", str(port), "--host", "127.0.0.1"]
    with _running(command, f"http://127.0.0.1:{port}/health", folder) as server:
        yield Server("infinity", f"http://127.0.0.1:{port}", "/v1/embeddings", "m", *server)


@contextmanager
def plain(python: Path, folder: Path, port: int = 18082) -> Iterator[Server]:
    """What people write themselves: FastAPI, sentence-transformers, a threadpool."""
    command = [str(python), str(PLAIN), str(folder), str(port)]
    with _running(command, f"http://127.0.0.1:{port}/health") as server:
        yield Server("FastAPI + sentence-transformers", f"http://127.0.0.1:{port}", "/v1/embeddings", "m", *server)


@contextmanager
def _running(command: Sequence[str], health: str, folder: Path | None = None) -> Iterator[tuple[int, float]]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    begun = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
                assert time.perf_counter() < begun + _PATIENCE, f"{command[0]} is not ready"
                try:
                    urllib.request.urlopen(health, timeout=5).read()  # noqa: S310 - an address of ours
                    break
                except OSError:
                    time.sleep(0.01)
            yield process.pid, time.perf_counter() - begun
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
