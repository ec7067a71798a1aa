"""Collections over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import DebugEncoder, serving

from service.serving.state import ServiceState

DOCUMENTS = [
    {"id": "cat", "text": "the cat sat on the mat", "metadata": {"kind": "pets", "n": 1}},
    {"id": "dog", "text": "the dog ran to the mat", "metadata": {"kind": "pets", "n": 2}},
    {"id": 7, "text": "stocks fell sharply today", "metadata": {"kind": "money"}},
]


@pytest.fixture
def http(encoder: DebugEncoder, tmp_path: Path) -> Iterator[httpx.Client]:
    state = ServiceState.of(encoder, data=tmp_path / "data")
    (tmp_path / "data").mkdir()
    with serving(state) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture
def filled(http: httpx.Client) -> httpx.Client:
    assert http.post("/v1/collections", json={"name": "c"}).status_code == 201
    assert http.post("/v1/collections/c/documents", json={"documents": DOCUMENTS}).json()["written"] == 3
    return http


def test_a_collections_life(filled: httpx.Client, tmp_path: Path):
    (card,) = filled.get("/v1/collections").json()["data"]
    assert (card["name"], card["documents"], card["dim"], card["model"]) == ("c", 3, 8, "debug")
    assert filled.get("/v1/collections/c").json()["documents"] == 3
    assert filled.post("/v1/collections", json={"name": "c"}).status_code == 409
    found = filled.post("/v1/collections/c/documents/get", json={"ids": [7, "none", "cat"]}).json()["documents"]
    assert [document and document["id"] for document in found] == [7, None, "cat"]
    assert filled.post("/v1/collections/c/documents/delete", json={"ids": ["cat", "x"]}).json() == {"deleted": 1}
    by_filter = filled.post("/v1/collections/c/documents/delete", json={"where": {"kind": "pets"}})
    assert by_filter.json() == {"deleted": 1}
    assert filled.delete("/v1/collections/c").json() == {"dropped": "c"}
    assert filled.get("/v1/collections/c").status_code == 404
    assert list((tmp_path / "data").iterdir()) == []


def test_documents_are_replaced_by_id(filled: httpx.Client):
    changed = [{"id": "cat", "text": "the cat has gone"}]
    filled.post("/v1/collections/c/documents", json={"documents": changed})
    (found,) = filled.post("/v1/collections/c/documents/get", json={"ids": ["cat"]}).json()["documents"]
    assert found == {"id": "cat", "text": "the cat has gone", "metadata": {}}


def test_search_in_all_its_ways(filled: httpx.Client):
    def ids(**fields: object) -> list:
        answer = filled.post("/v1/collections/c/search", json=fields)
        assert answer.status_code == 200, answer.text
        return [hit["id"] for hit in answer.json()["hits"]]

    assert ids(query="stocks fell sharply today", k=1) == [7]
    assert ids(query="mat", mode="lexical") in (["cat", "dog"], ["dog", "cat"])
    assert set(ids(query="cat mat", mode="hybrid", k=3)) == {"cat", "dog", 7}
    assert ids(query="the cat sat on the mat", where={"kind": "money"}) == [7]
    assert len(ids(query="the mat", group_by="kind")) == 2
    several = filled.post(
        "/v1/collections/c/search", json={"queries": ["the cat sat on the mat", "stocks fell"], "k": 1}
    )
    assert [hits[0]["id"] for hits in several.json()["results"]] == ["cat", 7]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/collections", {"name": "../evil"}, 400),
        ("POST", "/v1/collections", {"name": "x/y"}, 400),
        ("POST", "/v1/collections", {"name": "x", "model": "nobody"}, 404),
        ("POST", "/v1/collections/..%2f..%2fetc/search", {"query": "a"}, 404),
        ("GET", "/v1/collections/nobody", None, 404),
        ("POST", "/v1/collections/c/documents", {"documents": []}, 400),
        ("POST", "/v1/collections/c/documents", {"documents": [{"id": 1, "text": ""}]}, 400),
        ("POST", "/v1/collections/c/documents", {"documents": [{"id": 1, "text": "a"}, {"id": 1, "text": "b"}]}, 409),
        ("POST", "/v1/collections/c/documents", {"documents": [{"id": 2**63, "text": "a"}]}, 400),
        ("POST", "/v1/collections/c/documents", {"documents": [{"id": 1, "text": "word " * 100}]}, 400),
        ("POST", "/v1/collections/c/documents/delete", {}, 400),
        ("POST", "/v1/collections/c/documents/delete", {"ids": [1], "where": {"n": 1}}, 400),
        ("POST", "/v1/collections/c/documents/delete", {"where": {"$nonsense": 1}}, 400),
        ("POST", "/v1/collections/c/documents/get", {"ids": [1, 1]}, 400),
        ("POST", "/v1/collections/c/search", {}, 400),
        ("POST", "/v1/collections/c/search", {"query": "a", "queries": ["b"]}, 400),
        ("POST", "/v1/collections/c/search", {"queries": ["a"] * 300}, 413),
    ],
)
def test_what_is_wrong_is_said(filled: httpx.Client, method: str, path: str, body: object, status: int):
    answer = filled.request(method, path, json=body) if body is not None else filled.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert filled.get("/v1/collections/c").json()["documents"] == 3


def test_a_collection_of_the_operators_is_not_dropped_over_http(http: httpx.Client, url: str):
    with httpx.Client(base_url=url) as operators:
        assert operators.delete("/v1/collections/default").status_code == 403
        assert operators.get("/v1/collections/default").json()["documents"] == 3


def test_without_a_data_folder_none_is_made(bare_url: str):
    answer = httpx.post(f"{bare_url}/v1/collections", json={"name": "c"})
    assert answer.status_code == 403
    assert "--data" in answer.json()["error"]["message"]


def test_metadata_comes_back_however_large_its_numbers(filled: httpx.Client):
    large = {"n": 10**400, "list": [2**64, -(2**70)], "text": "ä"}
    filled.post("/v1/collections/c/documents", json={"documents": [{"id": "l", "text": "large", "metadata": large}]})
    (found,) = filled.post("/v1/collections/c/documents/get", json={"ids": ["l"]}).json()["documents"]
    assert found["metadata"] == large
    hits = filled.post("/v1/collections/c/search", json={"query": "large", "k": 9, "mode": "hybrid"}).json()["hits"]
    assert {hit["id"] for hit in hits} == {"l", "cat", "dog", 7}


def test_a_collection_is_dropped_after_the_last_search_in_it(filled: httpx.Client):
    statuses: list[int] = []
    over = threading.Event()

    def search() -> None:
        with httpx.Client(base_url=filled.base_url, timeout=20) as http:
            while not over.is_set():
                body = {"query": "the mat", "k": 50, "mode": "hybrid"}
                statuses.append(http.post("/v1/collections/c/search", json=body).status_code)

    threads = [threading.Thread(target=search) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        assert filled.delete("/v1/collections/c").status_code == 200
        assert filled.post("/v1/collections", json={"name": "c"}).status_code == 201
        filled.post("/v1/collections/c/documents", json={"documents": DOCUMENTS})
    over.set()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 404}
    assert 200 in statuses
