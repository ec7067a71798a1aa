"""Keys, hosts and origins."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from serving import DebugEncoder, serving
from starlette.datastructures import Headers

from encoder_tools.errors import InputError
from service.auth import Access, Keys
from service.errors import ApiError
from service.serving.state import ServiceState


@pytest.fixture(scope="module")
def locked(encoder: DebugEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = ServiceState.of(encoder, data=tmp_path_factory.mktemp("data"))
    state.access = Access(Keys.of(["write-key-1", "write-key-2"], ["read-key-1"]))
    with serving(state) as url:
        yield url


def call(
    url: str, key: str | bytes | None, method: str = "GET", path: str = "/v1/models", **options: object
) -> httpx.Response:
    key = key.encode() if isinstance(key, str) else key
    headers = {} if key is None else {"authorization": b"Bearer " + key}
    return httpx.request(method, url + path, headers=headers, **options)  # type: ignore[arg-type]


def test_without_the_right_key_nothing_is_told(locked: str):
    for key in (None, "wrong-key", "write-key-", b"\xd0\xba"):
        answer = call(locked, key)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert call(locked, None, path="/metrics").status_code == 401
    assert call(locked, None, path="/no/such/route").status_code == 401
    assert call(locked, None, path="/health").status_code == 200
    assert call(locked, None, method="POST", path="/").status_code == 401


def test_each_key_may_do_what_it_was_made_for(locked: str):
    for key in ("write-key-1", "write-key-2", "read-key-1"):
        assert call(locked, key).status_code == 200
    embed = {"model": "debug", "input": "a"}
    assert call(locked, "read-key-1", "POST", "/v1/embeddings", json=embed).status_code == 200
    refused = call(locked, "read-key-1", "POST", "/v1/collections", json={"name": "x"})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "read_only_key"
    assert call(locked, "write-key-2", "POST", "/v1/collections", json={"name": "x"}).status_code == 201
    assert httpx.get(f"{locked}/v1/models", headers={"api-key": "read-key-1"}).status_code == 200


@pytest.mark.parametrize(
    "keys", [(["short"], []), (["with space key"], []), (["same-key-1"], ["same-key-1"]), (["ключключключ"], [])]
)
def test_keys_that_are_no_keys_are_refused(keys: tuple[list[str], list[str]]):
    with pytest.raises(InputError):
        Keys.of(*keys)


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("127.8.8.8", True),
        ("[::1]:8080", True),
        ("allowed.example:1", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[::1", True),
    ],
)
def test_a_loopback_server_answers_for_its_own_names_only(host: str, good: bool):
    access = Access(hosts=frozenset({"localhost", "allowed.example"}))
    if good:
        access.check("GET", "/", Headers({"host": host}))
    else:
        with pytest.raises(ApiError) as refused:
            access.check("GET", "/", Headers({"host": host}))
        assert refused.value.status == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://localhost:1", 200), ("http://friend.example", 200)],
)
def test_pages_of_other_sites_may_not_send_anything(origin: str, status: int):
    access = Access(origins=frozenset({"http://friend.example"}))
    headers = Headers({"host": "localhost:1", "origin": origin})
    access.check("GET", "/", headers)
    if status == 200:
        access.check("POST", "/v1/embeddings", headers)
    else:
        with pytest.raises(ApiError) as refused:
            access.check("POST", "/v1/embeddings", headers)
        assert refused.value.status == status


def test_pages_of_sites_that_the_operator_names_may_call(encoder: DebugEncoder):
    state = ServiceState.of(encoder)
    state.access = Access(Keys.of(["write-key-1"], []), origins=frozenset({"https://friend.example"}))
    with serving(state) as url:
        headers = {"origin": "https://friend.example", "access-control-request-method": "POST"}
        preflight = httpx.options(f"{url}/v1/embeddings", headers=headers)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://friend.example"
        other = httpx.options(f"{url}/v1/embeddings", headers={**headers, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        headers["authorization"] = "Bearer write-key-1"
        answer = httpx.post(f"{url}/v1/embeddings", headers=headers, json={"model": "debug", "input": "a"})
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
