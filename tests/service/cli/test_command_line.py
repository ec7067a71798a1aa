"""The command line in processes of its own: exit codes, one-line errors, and servers that stop cleanly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest
from serving import COMMAND, ROOT, started

import encoder_tools


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_version_and_help_exit_with_0():
    assert run("--version").stdout.strip() == f"encoder-tools {encoder_tools.__version__}"
    helped = run("--help")
    assert helped.returncode == 0
    assert all(name in helped.stdout for name in ("extract", "export", "serve", "demo", "info"))


@pytest.mark.parametrize(
    "arguments", ["serv", "serve --port x", "serve --port 70000", "serve --provider tpu", "info a b"]
)
def test_wrong_usage_exits_with_2(arguments: str):
    done = run(*arguments.split())
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "no/such/folder"],
        ["serve", "--port", "0", "--model", "no/such/folder"],
        ["serve", "--port", "0", "--collection", "no/such/folder"],
        ["serve", "--port", "0", "--head", "no/such/folder"],
        ["serve", "--port", "0", "--provider", "cuda"],
        ["serve", "--port", "0", "--threads", "5000"],
        ["serve", "--port", "0", "--variant", "fp16"],
        ["serve", "--port", "0", "--host", "not.a.host.invalid"],
        ["serve", "--port", "0", "--host", "203.0.113.7"],
    ],
    ids=" ".join,
)
def test_a_failure_exits_with_1_and_one_line(arguments: list[str]):
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


FULL_DISK = """
import resource, signal, sys
from service.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
main(["demo", "--port", "0", "--cache", sys.argv[1]])
"""


def test_a_full_disk_under_the_demo_is_one_line(tmp_path: Path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "cache")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it would write too
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "unforeseen" not in done.stderr
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_wherever_it_stands(place: str):
    arguments = ["info", "no/such/folder"]
    done = run(*(["--debug", *arguments] if place == "before" else [*arguments, "--debug"]))
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_port_in_use_is_one_line_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", port)
    assert done.returncode == 1
    assert (
        done.stderr == f"error: Port {port} on 127.0.0.1 is in use. Choose another with --port, or 0 for a free one.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_serve_prints_what_it_serves_answers_and_stops_with_0(number: signal.Signals):
    with started("serve", "--served-model-name", "small", "--served-model-name", "text-embedding-3-small") as server:
        assert "provider    cpu" in server.output
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused") as client:
            single = client.embeddings.create(model="text-embedding-3-small", input="Where is my card?")
        assert sum(value * value for value in single.data[0].embedding) == pytest.approx(1, abs=1e-4)
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
        assert server.process.stdout is not None
        *lines, last = server.process.stdout.read().strip().splitlines()
        assert last == "stopped"
        assert [json.loads(line)["path"] for line in lines] == ["/v1/embeddings"]


def test_a_curl_line_is_printed_that_works_when_pasted():
    with started("serve") as server:
        answer = paste(server.output.splitlines()[-1])
    assert answer["data"][0]["embedding"]


def test_an_idle_connection_does_not_hold_up_the_end():
    with started("serve") as server, httpx.Client(base_url=server.url) as client:
        client.get("/health")
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(5) == 0


def test_beyond_loopback_it_wants_a_key_or_to_be_told():
    refused = run("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert refused.returncode == 2
    assert "--api-key" in refused.stderr
    with started("serve", "--host", "0.0.0.0", "--no-auth") as server:  # noqa: S104
        assert "whoever reaches this address can use it" in server.output
    with started("serve", "--host", "0.0.0.0", "--api-key", "a-secret-key") as server:  # noqa: S104
        assert httpx.get(f"{server.url}/v1/models").status_code == 401
        assert httpx.get(f"{server.url}/health").status_code == 200
        right = httpx.get(f"{server.url}/v1/models", headers={"authorization": "Bearer a-secret-key"})
        assert right.status_code == 200
        assert "a-secret-key" not in server.output


def test_a_short_key_is_refused():
    assert "8 printable" in run("serve", "--api-key", "short", "--port", "0").stderr


def test_the_demo_builds_once_and_its_three_things_to_try_work(tmp_path: Path):
    with started("demo", "--cache", str(tmp_path)) as first:
        printed = [line for line in first.output.splitlines() if line.startswith("curl")]
        quickstart = (ROOT / "docs" / "quickstart.md").read_text().splitlines()
        shown = [line for line in quickstart if line.startswith("curl")]
        assert printed == [line.replace("http://127.0.0.1:8080", first.url) for line in shown]
        embedded, found, classified = map(paste, printed)
        assert embedded["usage"]["prompt_tokens"] > 0
        assert "Oxygen was discovered independently by Carl Wilhelm Scheele" in found["hits"][0]["text"]
        assert classified["data"][0]["labels"][0]["label"] == "card_arrival"
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(10) == 0
    assert "first start" in first.output
    with started("demo", "--cache", str(tmp_path)) as second:
        assert "first start" not in second.output
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def paste(line: str) -> dict:
    """Run a printed curl line in a shell, as a reader would."""
    done = subprocess.run(["sh", "-c", line.replace("curl ", "curl -sS ")], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
