"""Milvus Lite as a server of its own, behind Milvus's real wire."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

SERVE = """
import sys
from milvus_lite.adapter.grpc.server import run_server

run_server(sys.argv[1], "127.0.0.1", int(sys.argv[2]))
"""


class MilvusServer:
    """:param folder: of its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def address(self, name: str) -> str:
        """Of a collection."""
        return f"milvus://127.0.0.1:{self.port}?collection={name}"

    def start(self) -> None:
        command = [sys.executable, "-c", SERVE, str(self._folder), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, "Milvus Lite ended at once"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)

    def kill(self) -> None:
        """As a power failure of the process."""
        self._process.kill()
        self._process.wait()
