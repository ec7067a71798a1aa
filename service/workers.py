"""Several processes on one port: the first starts and watches the others, which serve.

Python runs one thread at a time in a process, so that one process answers some thousand small requests per second at
most, however many cores compute for it. Each worker has its share of the cores, of the queue and of the memory for
bodies, so that all together admit what one process would. The kernel hands connections out (SO_REUSEPORT).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from encoder_tools.machine.processor import this_processor
from service.observability.logs import log_line
from service.server import bind

_VARIABLE = "ENCODER_TOOLS_WORKER"
_POLL_S = 0.1
_SOON_S, _SOON_MOST = 5.0, 3
"""A worker that ends so soon after its start, so often in a row, will not live."""


@dataclass(frozen=True)
class WorkerPlace:
    """What a worker is told: which of how many it is.

    :ivar port: that all share.
    :ivar alive: a pipe that ends with the first process.
    :ivar folder: where workers write their metrics for each other.
    """

    number: int
    count: int
    host: str
    port: int
    alive: int
    folder: str

    @classmethod
    def mine(cls) -> WorkerPlace | None:
        """That of this process; None where it is none."""
        told = os.environ.pop(_VARIABLE, None)
        return None if told is None else cls(**json.loads(told))

    def bind(self) -> socket.socket:
        """Bind a socket of its own to the common port."""
        return bind(self.host, self.port, shared=True)

    def threads(self) -> int:
        """Cores for its models."""
        return max(1, this_processor().cores // self.count)

    def end_with_the_first(self) -> None:
        """Stop gracefully when the first process is gone, however it went."""

        def wait() -> None:
            os.read(self.alive, 1)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()

    def reload_others(self) -> None:
        """Have all workers hot-reload heads and collections."""
        os.kill(os.getppid(), signal.SIGHUP)


class _Worker(NamedTuple):
    process: subprocess.Popen[str]
    started: float


class Workers:
    """Starts workers by the command that this process was started with, and watches them.

    :param listener: bound to the common port, and not listening.
    """

    def __init__(self, count: int, host: str, listener: socket.socket, drain_seconds: float) -> None:
        self._count, self._host, self._port = count, host, listener.getsockname()[1]
        self._drain_seconds = drain_seconds
        self._running: dict[int, _Worker] = {}
        self._soon = 0
        self._stopping = False
        self._alive, self._mine = os.pipe()

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; the exit code.

        The first worker prints what it serves; the others start when it listens, and print only what fails.
        """
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._send(signal.SIGHUP))
        with tempfile.TemporaryDirectory(prefix="encoder-tools-") as folder:
            first = self._start(0, folder, echo=True)
            if not self._listens(first):
                code = first.process.wait()
                return 0 if self._stopping else abs(code)  # a signal's number, where one ended it
            for number in range(1, self._count):
                self._start(number, folder)
            return self._watch(folder)

    def _start(self, number: int, folder: str, *, echo: bool = False) -> _Worker:
        place = WorkerPlace(number, self._count, self._host, self._port, self._alive, folder)
        environment = {**os.environ, _VARIABLE: json.dumps(vars(place)), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(  # noqa: S603 - the command that started this process
            [sys.executable, *sys.orig_argv[1:]],
            env=environment,
            stdout=subprocess.PIPE if echo else subprocess.DEVNULL,
            text=True,
            pass_fds=[self._alive],
        )
        self._running[number] = _Worker(process, time.monotonic())
        if self._stopping:  # since it was decided to start it: it has not been told
            process.send_signal(signal.SIGTERM)
        return self._running[number]

    @staticmethod
    def _listens(worker: _Worker) -> bool:
        """Pass on what a worker prints until it listens; what comes behind is passed on too."""
        output = worker.process.stdout
        if output is None:
            return False
        for line in output:
            print(line, end="", flush=True)  # noqa: T201 - it is the worker's
            if line.startswith("listening"):
                threading.Thread(target=_pass_on, args=(output,), daemon=True).start()
                return True
        return False

    def _watch(self, folder: str) -> int:
        while self._running:
            for number, worker in list(self._running.items()):
                code = worker.process.poll()
                if code is not None:
                    del self._running[number]
                    if not self._stopping and not self._begun_again(number, worker, code, folder):
                        return 1
            time.sleep(_POLL_S)
        return 0

    def _begun_again(self, number: int, worker: _Worker, code: int, folder: str) -> bool:
        """Start another in the place of one that ended by itself, unless they end as fast as they start."""
        lived = time.monotonic() - worker.started
        log_line(event="worker", number=number, exit_code=code, seconds=round(lived, 1))
        self._soon = self._soon + 1 if lived < _SOON_S else 0
        if self._soon == _SOON_MOST:
            log_line(event="worker", failed=f"workers ended {_SOON_MOST} times within {_SOON_S:g} s; stopping")
            self._stop()
            self._wait()
            return False
        self._start(number, folder)
        return True

    def _wait(self) -> None:
        end = time.monotonic() + self._drain_seconds + _SOON_S
        for worker in self._running.values():
            try:
                worker.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()

    def _stop(self) -> None:
        self._stopping = True
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for worker in self._running.values():
            if worker.process.poll() is None:
                worker.process.send_signal(number)


def _pass_on(output: Iterable[str]) -> None:
    for line in output:
        print(line, end="", flush=True)  # noqa: T201 - it is the worker's
