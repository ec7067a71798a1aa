"""Whatever is sent, the answer is an error in OpenAI's shape and the server lives on."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import DebugEncoder, serving

from index import Collection
from service.serving.state import ServiceState


def error_of(response: httpx.Response) -> dict:
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert "\n" not in body["error"]["message"]
    assert "Traceback" not in response.text
    return body["error"]


def embed(http: httpx.Client, value: object, **fields: object) -> httpx.Response:
    return http.post("/v1/embeddings", content=json.dumps({"model": "debug", "input": value, **fields}))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "input is an empty text"),
        (["fine", ""], "input[1] is an empty text"),
        ([], "empty list"),
        ([[]], "empty"),
        (["a", 1], "mixes"),
        ([[1], "a"], "mixes"),
        ([1, True], "bool"),
        ([1.5], "float"),
        ([1000], "vocabulary"),
        ([-1], ">= 0"),
        ([10**40], "2147483647"),
        ([2] * 65, "at most 64"),
        (None, "null"),
        (7, "int"),
        ({"text": "a"}, "object"),
        ("\ud800", "not valid JSON"),
        (["a", "b\udfff"], "not valid JSON"),
    ],
)
def test_a_wrong_input_is_a_400_that_says_what_is_wrong(http: httpx.Client, value: object, says: str):
    response = embed(http, value)
    assert response.status_code == 400
    assert says in error_of(response)["message"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([0], "Input 0 gives a zero vector"),
        ([[5], [0, 0]], "Input 1 gives a zero vector"),
        ([[5], [6] * 70, [7]], "Input 1 has 70 tokens"),
        ([[5, 5, 5], [6], [7, 7, 1000, 7, 7]], "Token list 2 holds id 1000"),
        (["fine", "", "x"], "input[1] is an empty text"),
    ],
    ids=str,
)
def test_an_error_names_the_position_in_the_request_and_the_field(http: httpx.Client, value: object, says: str):
    error = error_of(embed(http, value))
    assert says in error["message"]
    assert error["param"] == "input"


def test_too_many_items_are_a_413(http: httpx.Client):
    response = embed(http, ["a"] * 2049)
    assert response.status_code == 413
    assert "2049 items" in error_of(response)["message"]


def test_ids_are_all_checked_before_any_is_computed(http: httpx.Client, encoder: DebugEncoder):
    before = encoder.computed
    long = [[2] * 64] * 400  # three slices of work before the wrong one
    assert embed(http, [*long, [5000]]).status_code == 400
    assert encoder.computed == before


def test_an_empty_query_is_called_one(http: httpx.Client):
    error = error_of(http.post("/search", json={"query": ""}))
    assert error["message"].startswith("query is an empty text")
    assert error["param"] == "query"
    error = error_of(http.post("/search", json={"query": "a " * 100}))
    assert (error["param"], error["code"]) == ("query", "context_length_exceeded")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"dimensions": "8"}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"model": 3}, "model"),
        ({"truncate": "yes"}, "truncate"),
    ],
)
def test_a_field_of_a_wrong_type_is_named(http: httpx.Client, fields: dict[str, Any], param: str):
    response = embed(http, "a", **fields)
    assert response.status_code == 400
    assert error_of(response)["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"model": "debug", "input": "\xff"}',
        b'{"model": "debug", "input": "\xed\xa0\x80"}',
        b'{"model": "debug", "input": "a", "x": NaN}',
        b'{"x": "a"}',
        b'{"model": "debug"}',
        b'{"model": "debug", "input": ' + b"[" * 100_000,
        b'{"model": "debug", "input": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"input=a&model=debug",
    ],
    ids=lambda body: repr(body[:40]),
)
@pytest.mark.parametrize("route", ["/v1/embeddings", "/search", "/classify"])
def test_a_body_that_is_not_the_expected_json_is_a_400(http: httpx.Client, route: str, body: Any):
    response = http.post(route, content=body)
    assert response.status_code == 400
    error_of(response)


def test_a_megabyte_of_text_is_refused_as_too_long(http: httpx.Client):
    response = embed(http, "word " * 200_000)
    assert response.status_code == 400
    assert error_of(response)["code"] == "context_length_exceeded"


@pytest.mark.parametrize("announced", [True, False], ids=["with a length", "chunked"])
def test_a_body_over_the_limit_is_a_413(http: httpx.Client, announced: bool):
    body = b'{"model": "debug", "input": "' + b"a" * 3_000_000 + b'"}'
    response = http.post("/v1/embeddings", content=body if announced else iter([body[:100], body[100:]]))
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


def test_an_unknown_route_and_a_wrong_method_have_the_same_shape(http: httpx.Client):
    missing = http.get("/v1/nothing")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "route_not_found")
    wrong = http.get("/v1/embeddings")
    assert (wrong.status_code, error_of(wrong)["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize("name", ["%FF", "%ED%A0%80", "%00", "a/../b", "x" * 5000])
def test_a_hostile_model_name_in_the_path_is_a_404(http: httpx.Client, name: str):
    response = http.get(f"/v1/models/{name}")
    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"


def test_an_unforeseen_failure_is_a_500_without_its_reason_in_the_body(
    http: httpx.Client, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.CRITICAL, "uvicorn.error"):
        response = embed(http, "crash")
    assert (response.status_code, error_of(response)["type"]) == (500, "server_error")
    assert "secret" not in response.text
    # uvicorn closes the connection of a request that raised, so the server is asked again on a new one
    with httpx.Client(base_url=http.base_url) as fresh:
        assert embed(fresh, "fine").status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(http: httpx.Client, url: str):
    port = int(url.rpartition(":")[2])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert embed(http, "fine").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"query": ""},
        {"query": ["a"]},
        *(
            {"query": "a", **wrong}
            for wrong in (
                {"k": 0}, {"k": 1001}, {"mode": "magic"}, {"where": {"n": {"$near": 1}}}, {"where": []},
                {"offset": -1}, {"offset": 10**9}, {"min_score": "high"}, {"fusion": "sum"}, {"weights": {"other": 1}},
                {"group_by": ""}, {"weights": {"dense": -1}}, {"diversity": 2}, {"diversity": 0.5, "mode": "hybrid"},
                {"highlight": 1},
            )
        ),
    ],
)  # fmt: skip
def test_a_wrong_search_is_a_400(http: httpx.Client, body: Any):
    response = http.post("/search", json=body)
    assert response.status_code == 400
    error_of(response)


@pytest.mark.parametrize("body", [{"input": ""}, {"input": []}, {"input": [1]}, {"input": "a", "top": 0}])
def test_a_wrong_classification_is_a_400(http: httpx.Client, body: Any):
    response = http.post("/classify", json=body)
    assert response.status_code == 400
    error_of(response)


def test_a_collection_that_was_re_embedded_elsewhere_is_a_409(encoder: DebugEncoder, tmp_path: Path):
    class Other(DebugEncoder):
        fingerprint = "other"

    collection = Collection.create(tmp_path / "c", encoder)
    collection.upsert(["a"], ["the cat"])
    with serving(ServiceState.of(encoder, collection=collection)) as address:
        assert httpx.post(f"{address}/search", json={"query": "cat"}).status_code == 200
        with Collection.open(tmp_path / "c", encoder) as elsewhere:
            elsewhere.reembed(Other())
        response = httpx.post(f"{address}/search", json={"query": "cat"})
        assert response.status_code == 409
        assert "re-embedded" in error_of(response)["message"]
        assert httpx.post(f"{address}/search", json={"query": "cat", "mode": "lexical"}).status_code == 200


def test_search_and_classify_without_collection_or_head_say_how_to_get_one(bare_url: str):
    for route, option in (("/search", "--collection"), ("/classify", "--head")):
        response = httpx.post(bare_url + route, json={"query": "a", "input": "a"})
        assert response.status_code == 404
        assert option in error_of(response)["message"]
