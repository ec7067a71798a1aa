"""Clients that are slow, leave, close half, say nonsense, or come too many; and the end of the server."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from serving import DebugEncoder, serving, started

from encoder_tools.protocols import FloatMatrix
from service.batching import QueueLimits
from service.http.protocol import Connection
from service.serving.state import Limits, ServiceState

BODY = json.dumps({"model": "debug", "input": ["word"] * 40}).encode()


class SlowEncoder(DebugEncoder):
    """Takes five milliseconds a list, once it is under way."""

    slow = False

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, dim: int | None = None, check: bool = True) -> FloatMatrix:
        if self.slow:
            time.sleep(0.005 * len(ids))
        return super().encode_tokens(ids, dim=dim, check=check)


@pytest.fixture
def slow() -> SlowEncoder:
    return SlowEncoder()


@pytest.fixture
def state(slow: SlowEncoder) -> ServiceState:
    made = ServiceState.of(slow, limits=Limits(held_bytes=1_000_000, queue=QueueLimits(max_wait=3600)))
    made.registry.default_model().embedder.engine.costs.budget = 16  # eight lists of two tokens
    slow.slow = True
    slow.computed = 0
    return made


@pytest.fixture
def address(state: ServiceState) -> Iterator[tuple[str, int]]:
    with serving(state) as url:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        yield parts.hostname, parts.port


def post(body: bytes = BODY, version: str = "1.1", extra: str = "") -> bytes:
    head = f"POST /v1/embeddings HTTP/{version}\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def read_all(client: socket.socket) -> bytes:
    client.settimeout(10)
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def final_of(answer: bytes) -> bytes:
    """What follows the interim responses."""
    *interim, final = answer.split(b"HTTP/1.1 ")[1:]
    assert all(part.startswith(b"102 ") for part in interim)
    return final


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def error_in(answer: bytes) -> dict:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head
    error: dict = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_the_work_of_clients_that_have_left_is_not_done(address: tuple[str, int], slow: SlowEncoder):
    clients = [socket.create_connection(address) for _ in range(50)]
    for client in clients:
        client.sendall(post())
    time.sleep(0.3)
    for client in clients:
        client.close()
    answer = httpx.post(
        f"http://{address[0]}:{address[1]}/v1/embeddings", json={"model": "debug", "input": "me"}, timeout=10
    )
    assert answer.status_code == 200
    time.sleep(0.5)
    seen = slow.computed
    time.sleep(0.3)
    assert slow.computed == seen < 50 * 40 / 2


def test_who_closes_only_the_sending_half_gets_the_answer(address: tuple[str, int]):
    with socket.create_connection(address) as client:
        client.sendall(post())
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
    final = final_of(answer)
    assert final.startswith(b"200 ")
    assert len(json.loads(final.partition(b"\r\n\r\n")[2])["data"]) == 40


def test_a_request_without_end_is_cut_off(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Connection, "send_seconds", 0.3)
    for part in (post()[:30], post()[:-5]):
        with socket.create_connection(address) as client:
            client.sendall(part)
            assert error_in(read_all(client))["code"] == "request_timeout"
    with socket.create_connection(address) as client:
        assert read_all(client) == b""  # it said nothing, so nothing is said to it


def test_a_drop_now_and_then_does_not_keep_a_connection(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Connection, "send_seconds", 0.5)
    with socket.create_connection(address) as client:
        begun = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\n")
        try:
            while time.monotonic() < begun + 5:
                client.sendall(b"X-Drop: 1\r\n")
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() - begun < 5  # it was cut off: nobody ended it otherwise


def test_a_client_that_does_not_read_is_cut_off(
    address: tuple[str, int], state: ServiceState, slow: SlowEncoder, monkeypatch: pytest.MonkeyPatch
):
    slow.slow = False
    monkeypatch.setattr(Connection, "read_seconds", 0.3)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address)
        body = json.dumps({"model": "debug", "input": ["word"] * 2000, "dimensions": 8}).encode()
        for _ in range(40):  # more than the kernel's buffers take
            client.sendall(post(body))
        wait_until(lambda: state.under_way == 0)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"NONSENSE\r\n\r\n", b"400", "invalid_http"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", b"400", "invalid_http"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 300_000, b"431", "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000, b"431", "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 80_000 + b"\r\n\r\n", b"431", "headers_too_large"),
        (b"GET /" + b"a" * 300_000, b"431", "headers_too_large"),
    ],
)
def test_broken_http_is_an_error_in_our_shape(address: tuple[str, int], sent: bytes, status: bytes, code: str):
    with socket.create_connection(address) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused before it had all been sent
        try:
            answer = read_all(client)
        except ConnectionResetError:
            return
    assert answer.split(b" ", 2)[1] == status
    assert error_in(answer)["code"] == code


def test_more_connections_than_allowed_are_told(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Connection, "max_connections", 3)
    clients = [socket.create_connection(address) for _ in range(3)]
    time.sleep(0.1)
    with socket.create_connection(address) as client:
        answer = read_all(client)
    assert b"retry-after" in answer
    assert error_in(answer)["code"] == "server_full"
    for one in clients:
        one.close()


def test_all_bodies_together_are_bounded(address: tuple[str, int], state: ServiceState):
    with ExitStack() as stack:
        for number in range(1, 5):
            client = stack.enter_context(socket.create_connection(address))
            client.sendall(post(b" " * 200_000)[:-1])  # a byte is missing, so the rest is held
            wait_until(lambda number=number: state.ledger.held == number * 199_999)
        with socket.create_connection(address) as client:
            client.sendall(post(b" " * 300_000))
            client.shutdown(socket.SHUT_WR)
            answer = final_of(read_all(client))
        assert answer.startswith(b"429 ")
        assert error_in(answer)["code"] == "server_full"
    wait_until(lambda: state.ledger.held == 0)


def test_a_client_may_say_how_long_it_waits(address: tuple[str, int]):
    url = f"http://{address[0]}:{address[1]}/v1/embeddings"
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(httpx.post, url, content=BODY, timeout=20)
        time.sleep(0.05)
        late = httpx.post(url, content=BODY, headers={"x-request-timeout": "0.05"}, timeout=20)
        assert first.result().status_code == 200
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_passed"


def test_a_busy_server_says_when_to_come_again(slow: SlowEncoder):
    state = ServiceState.of(slow, limits=Limits(queue=QueueLimits(max_wait=0.05)))
    slow.slow = True
    state.registry.default_model().embedder.engine.costs.speed = 2 / 0.005
    with serving(state) as url, ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: httpx.post(f"{url}/v1/embeddings", content=BODY, timeout=60), range(30)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    refused = answers[statuses.index(429)]
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "queue_full"


def test_answers_carry_the_requests_id_and_its_times(address: tuple[str, int]):
    url = f"http://{address[0]}:{address[1]}/v1/embeddings"
    answer = httpx.post(url, json={"model": "debug", "input": "a"}, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert {part.partition(";")[0] for part in answer.headers["server-timing"].split(", ")} == {
        "tokenize",
        "queue",
        "inference",
        "total",
    }
    evil = httpx.post(url, json={"model": "debug", "input": "a"}, headers={"x-request-id": 'x"<script>'})
    assert len(evil.headers["x-request-id"]) == 32


def test_sigterm_finishes_what_was_accepted_and_takes_nothing_new():
    with started("serve", "--max-wait", "600") as (process, url, _):
        texts = ["a long text about cards and payments " * 40] * 60
        with ThreadPoolExecutor(4) as pool:
            sent = [
                pool.submit(
                    httpx.post,
                    f"{url}/v1/embeddings",
                    json={"model": "default", "input": texts, "truncate": True},
                    timeout=60,
                )
                for _ in range(4)
            ]
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            ready = httpx.get(f"{url}/ready")
            new = httpx.post(f"{url}/v1/embeddings", json={"model": "default", "input": "new"})
            answers = [one.result() for one in sent]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert ready.status_code == 503
        assert new.status_code == 503
        assert new.json()["error"]["code"] == "draining"
        assert process.wait(20) == 0


def test_what_is_not_finished_in_time_is_told_so():
    with started("serve", "--drain-timeout", "0.3") as (process, url, _):
        texts = ["a long text about cards and payments " * 40] * 300
        found: list[httpx.Response] = []

        def send() -> None:
            body = {"model": "default", "input": texts, "truncate": True}
            found.append(httpx.post(f"{url}/v1/embeddings", json=body, timeout=60))

        thread = threading.Thread(target=send)
        thread.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        thread.join()
        assert found[0].status_code == 503
        assert found[0].json()["error"]["code"] == "stopping"
        assert process.wait(20) == 0


def test_a_server_whose_model_has_no_thread_any_more_is_not_ready(state: ServiceState, address: tuple[str, int]):
    url = f"http://{address[0]}:{address[1]}"
    assert httpx.get(f"{url}/ready").json() == {"status": "ready"}
    state.registry.default_model().embedder.engine.close()
    answer = httpx.get(f"{url}/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "broken"})


def test_what_would_make_an_enormous_answer_is_refused(url: str):
    for path, body in (
        ("/tokenize", {"inputs": ["a" * 1000] * 301}),
        ("/decode", {"ids": [[5] * 100_001] * 3}),
        ("/search", {"queries": ["a"] * 100, "k": 101}),
    ):
        answer = httpx.post(f"{url}{path}", json=body, timeout=20)
        assert answer.status_code == 413, path
        assert answer.json()["error"]["code"] == "request_too_large"


def test_a_body_that_is_refused_before_it_has_all_come_is_told_why(url: str):
    with httpx.Client(base_url=url, timeout=20) as http:
        for _ in range(3):  # on one connection: the rest of the body is read and forgotten
            answer = http.post("/v1/embeddings", content=b'{"input": "' + b"a" * 6_000_000)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "request_too_large"

        def parts() -> Iterator[bytes]:
            for _ in range(60):
                yield b" " * 100_000

        assert http.post("/v1/embeddings", content=parts()).status_code == 413
        assert http.get("/health").status_code == 200
