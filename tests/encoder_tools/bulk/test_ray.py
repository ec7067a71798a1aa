"""Bulk embedding on a real Ray cluster of two nodes on this machine: the same bytes, whoever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from encoder_tools.bulk import embed_files
from tests.waiting import until

pytest.importorskip("ray")
ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
"""Without the token that Ray keeps in the home of whoever runs it."""
COUNT, SHARD = 4000, 40


class Node(NamedTuple):
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End a node and all that runs on it, at once."""
        try:
            everything = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        except psutil.NoSuchProcess:
            return
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(30)


def start_node(*arguments: str) -> Node:
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", *arguments]
    command += ["--object-store-memory=200000000"]
    return Node(subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[Node]]]:
    port = free_port()
    temporary = tempfile.mkdtemp(prefix="ray")  # sockets in it have paths of 107 bytes at most
    address = f"127.0.0.1:{port}"
    head = start_node(
        "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false",
        "--disable-usage-stats", f"--temp-dir={temporary}", f"--dashboard-agent-listen-port={free_port()}",
    )  # fmt: skip
    until(lambda: can_connect(port))
    nodes = [head, start_node(f"--address={address}", "--node-ip-address=127.0.0.1")]
    yield address, nodes
    for node in reversed(nodes):
        node.kill()
    shutil.rmtree(temporary, ignore_errors=True)


def can_connect(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with path.open("w") as file:
        for number in range(COUNT):
            text = "" if number == 9 else f"Document {number} " + "speaks of many things " * (number % 9)
            file.write(json.dumps({"id": number, "text": text}) + "\n")
    return path


@pytest.fixture(scope="module")
def expected(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected") / "out"
    embed_files([rows], out, processes=1, shard_rows=SHARD)
    return files_of(out)


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def started(rows: Path, out: Path, address: str) -> subprocess.Popen[bytes]:
    script = "from service.cli import main; import sys; main(sys.argv[1:])"
    arguments = ["embed", str(rows), str(out), "--runner", "ray", "--ray-address", address, "--shard-rows", str(SHARD)]
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def embedders_of(node: Node) -> list[psutil.Process]:
    return [one for one in psutil.Process(node.process.pid).children(recursive=True) if "MapBatches" in title_of(one)]


def title_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.parametrize("victim", ["nobody", "process", "node"])
def test_a_cluster_gives_the_same_bytes(
    rows: Path, tmp_path: Path, expected: dict[str, bytes], cluster: tuple[str, list[Node]], victim: str
):
    address, nodes = cluster
    out = tmp_path / "out"
    run = started(rows, out, address)
    try:
        until(lambda: run.poll() is not None or len(list(out.glob("shard-*.json"))) > 5)
        assert run.poll() is None, run.communicate()[0].decode()
        if victim == "process":
            until(lambda: any(map(embedders_of, nodes)))
            next(one for node in nodes for one in embedders_of(node)).send_signal(signal.SIGKILL)
        elif victim == "node":
            nodes[1].kill()
        told, _ = run.communicate(timeout=150)
    finally:
        run.kill()
    assert run.returncode == 3, told.decode()  # one row was rejected
    assert files_of(out) == expected


def test_a_run_that_was_killed_resumes(
    rows: Path, tmp_path: Path, expected: dict[str, bytes], cluster: tuple[str, list[Node]]
):
    address, _ = cluster
    out = tmp_path / "out"
    run = started(rows, out, address)
    until(lambda: run.poll() is not None or len(list(out.glob("shard-*.json"))) > 5)
    run.kill()
    run.communicate()
    told, _ = started(rows, out, address).communicate(timeout=150)
    assert "were there)" in told.decode()
    assert files_of(out) == expected


def test_errors_are_those_of_a_run_without_a_cluster(tmp_path: Path, cluster: tuple[str, list[Node]]):
    address, _ = cluster
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "a"}\n')
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    told, _ = started(tmp_path / "cut.parquet", tmp_path / "out", address).communicate(timeout=120)
    assert f"error: {tmp_path / 'cut.parquet'} is no whole Parquet file" in told.decode()
    told, _ = started(tmp_path / "rows.jsonl", tmp_path / "out2", "127.0.0.1:1").communicate(timeout=120)
    assert "error: There is no Ray cluster at 127.0.0.1:1" in told.decode()
