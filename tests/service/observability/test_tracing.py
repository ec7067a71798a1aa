"""Traces: a real server's spans, received by a real collector's end of OTLP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from serving import started

from encoder_tools.errors import MissingExtraError
from service.observability.tracing import Tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(BaseHTTPRequestHandler):
    received: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    Collector.received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
        yield Collector.received
        server.shutdown()
        thread.join()


def test_a_request_is_a_span_of_the_callers_trace(collector: list[Any]):
    with started("serve", "--traces") as (process, url, _):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        body = {"model": "default", "input": ["a secret text", "another"]}
        answer = httpx.post(f"{url}/v1/embeddings", json=body, headers=headers, timeout=30)
        assert httpx.post(f"{url}/v1/embeddings", json={}, headers={"traceparent": "no"}).status_code == 400
        assert not collector, "spans are sent in the background, and the rest at the end"
        process.terminate()
        lines = process.communicate(timeout=30)[0].splitlines()
    assert process.returncode == 0
    resources = [group for request in collector for group in request.resource_spans]
    assert {a.key: a.value.string_value for a in resources[0].resource.attributes}["service.name"] == "encoder-tools"
    embedded, refused = [span for group in resources for scope in group.scope_spans for span in scope.spans]
    assert (embedded.trace_id.hex(), embedded.parent_span_id.hex()) == (TRACE, PARENT)
    assert embedded.name == "POST /v1/embeddings"
    assert embedded.kind == 2, "a server's"
    found = {attribute.key: attribute.value for attribute in embedded.attributes}
    assert found["http.response.status_code"].int_value == 200
    assert found["encoder_tools.model.tokenizer"].int_value == answer.json()["usage"]["total_tokens"]
    milliseconds = (embedded.end_time_unix_nano - embedded.start_time_unix_nano) / 1e6
    stages = [value.double_value for key, value in found.items() if key.startswith("encoder_tools.stage.")]
    assert "encoder_tools.stage.inference" in found
    assert 0 < sum(stages) <= milliseconds
    assert not refused.parent_span_id, "what is no traceparent begins a trace of its own"
    assert b"secret" not in b"".join(request.SerializeToString() for request in collector)
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    assert [line["trace"] for line in logged] == [TRACE, refused.trace_id.hex()]


def test_a_collector_that_is_not_there_delays_no_request_and_no_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with started("serve", "--traces", "--no-access-log") as (process, url, _):
        for _ in range(20):
            assert httpx.get(f"{url}/health").status_code == 200
        begun = time.monotonic()
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert time.monotonic() - begun < 25


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encoder_tools.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"encoder-tools\[otel\]"):
        Tracing.from_environment()
