"""Time from launching ``encoder-tools serve`` until ``/health`` answers, and its memory.

Starts the real command with the shipped model several times; the figures are medians, so that one disturbed start does
not count. Memory is ``VmRSS`` of the process (Linux) when ready, and again after 50 requests of mixed length.

Run it from the repository: ``python -m benchmarks.serve_startup``; it needs the base install only. ``--check`` serves
once, tries every route and writes nothing: that is CI's proof that the base install serves without torch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "serve_startup.json"
READY_LIMIT_S, RSS_LIMIT_MB = 1.5, 250.0
_REQUESTS = 50
_WORDS = "the card that I ordered last week has still not arrived and nobody answers my questions about it".split()


@dataclass(frozen=True)
class Start:
    """One start: seconds until ready, resident memory in MB when ready and after the requests."""

    ready_s: float
    rss_ready_mb: float
    rss_after_requests_mb: float


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="exported model folder; by default the shipped one")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="serve once, without figures")
    arguments = parser.parse_args()
    model = ["--model", arguments.model] if arguments.model else []
    if arguments.check:
        check(model)
        return
    starts = [measure(model) for _ in range(arguments.runs)]
    figures = {key: statistics.median(asdict(start)[key] for start in starts) for key in asdict(starts[0])}
    result = {"median": figures, "starts": [asdict(start) for start in starts], "machine": machine()}
    print(json.dumps(result, indent=2))
    print(
        f"ready in {figures['ready_s']:.2f} s (aim {READY_LIMIT_S} s), {figures['rss_ready_mb']:.0f} MB resident, ",
        end="",
    )
    print(f"{figures['rss_after_requests_mb']:.0f} MB after {_REQUESTS} requests (aim {RSS_LIMIT_MB:.0f} MB)")
    if not arguments.model:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(model: list[str]) -> Start:
    """Start, wait for the first answer, send mixed requests, stop."""
    begun = time.perf_counter()
    with serving(model) as (process, url):
        while True:
            try:
                get(url + "/health")
                break
            except OSError:
                time.sleep(0.005)
        ready_s = time.perf_counter() - begun
        at_start = rss_mb(process.pid)
        for number in range(_REQUESTS):
            embed(url, " ".join(_WORDS[: 1 + number % len(_WORDS)]))
        return Start(ready_s, at_start, rss_mb(process.pid))


def check(model: list[str]) -> None:
    """Serve with what is installed here, which must not include torch, and try the routes."""
    assert find_spec("torch") is None, "torch is installed here; --check is for the base install"
    with serving(model) as (process, url):
        vector = embed(url, "Where is my card?")["data"][0]["embedding"]
        assert abs(sum(value * value for value in vector) - 1) < 1e-4
        assert get(url + "/v1/models")["data"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    print(f"the base install serves without torch: {len(vector)} dimensions, stopped cleanly")


@contextmanager
def serving(model: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; yields the process and its address as soon as it listens."""
    command = [
        sys.executable,
        "-c",
        "from service.cli import main; main()",
        "serve",
        "--port",
        "0",
        "--served-model-name",
        "default",
        *model,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while not (match := re.search(r"listening +(http://\S+)", printed)):
                line = process.stdout.readline()
                assert line, f"the server ended with {process.wait()}"
                printed += line
            yield process, match.group(1)
        finally:
            process.terminate()


def embed(url: str, text: str) -> Any:
    """One request for one vector."""
    return get(f"{url}/v1/embeddings", {"model": "default", "input": text})


def get(url: str, body: dict[str, str] | None = None) -> Any:
    """GET, or POST with a body; the decoded answer."""
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=10) as response:  # noqa: S310 - our own server
        return json.load(response)


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match.group(1)) * 1024 / 1e6


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages = {name: version(name) for name in ("onnxruntime", "numpy", "starlette", "uvicorn")}
    return {
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        **packages,
    }


if __name__ == "__main__":
    main()
