"""Search, classification and the small routes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from serving import DebugEncoder

from encoder_tools.errors import InputError
from heads import FittedHead
from service.serving.state import ServiceState


def test_search_gives_the_collections_hits_best_first(http: httpx.Client):
    hits = http.post("/search", json={"query": "stocks fell sharply", "k": 2}).json()["hits"]
    assert hits[0]["id"] == "stocks"
    assert len(hits) == 2
    assert hits[0]["score"] >= hits[1]["score"]
    assert hits[0]["text"] == "stocks fell sharply today"


def test_search_applies_the_query_prompt(http: httpx.Client, encoder: DebugEncoder):
    hit = http.post("/search", json={"query": "the cat", "k": 3}).json()["hits"][0]
    document = encoder.encode_document([hit["text"]])[0]
    assert hit["score"] == pytest.approx(float(encoder.encode_query(["the cat"])[0] @ document), abs=1e-5)


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_search_ranks_again_by_tokens(http: httpx.Client, mode: str):
    body = {"query": "stocks today", "k": 2, "mode": mode, "rescore": "tokens"}
    hits = http.post("/search", json=body).json()["hits"]
    assert hits[0]["id"] == "stocks"
    assert [part["name"] for part in hits[0]["parts"]][-1] == "tokens"
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    refused = http.post("/search", json={**body, "k": 60})
    assert refused.status_code == 400
    assert "first 50 hits" in refused.text


def test_a_search_says_how_it_was_made_if_it_is_asked_to(http: httpx.Client):
    body = {"query": "the cat", "k": 2}
    assert http.post("/search", json=body).json()["plan"] is None
    plan = http.post("/search", json={**body, "explain": True}).json()["plan"]
    assert plan["kind"] == "exact"
    assert plan["matches"] > 0
    assert (plan["depth"], plan["effort"]) == (0, 0)
    words = http.post("/search", json={**body, "explain": True, "mode": "lexical"}).json()
    assert words["plan"] is None


def test_search_never_cuts_a_query_in_silence(http: httpx.Client):
    body = {"query": "word " * 100}
    assert http.post("/search", json=body).status_code == 400
    assert http.post("/search", json={**body, "truncate": True}).status_code == 200


def test_search_by_words_and_by_both(http: httpx.Client):
    body = {"query": "the rain", "k": 3, "mode": "lexical", "highlight": True, "neighbors": 1}
    response = http.post("/search", json=body).json()
    assert [hit["id"] for hit in response["hits"]] == ["cat", "rain"]
    assert response["usage"]["total_tokens"] == 0  # no model was asked
    marked = {hit["id"]: [hit["text"][start:end] for start, end in hit["highlights"]] for hit in response["hits"]}
    assert marked == {"cat": ["the", "the"], "rain": ["rain"]}
    assert [(hit["before"], hit["after"]) for hit in response["hits"]] == [([], []), ([], [])]  # no chunks
    hits = http.post("/search", json={**body, "mode": "hybrid", "weights": {"dense": 0.5}}).json()["hits"]
    assert {hit["id"] for hit in hits} == {"cat", "rain", "stocks"}
    names = {hit["id"]: {part["name"] for part in hit["parts"]} for hit in hits}
    assert names["rain"] == {"dense", "lexical"}
    assert names["stocks"] == {"dense"}


def test_search_among_what_a_filter_lets_through_and_page_by_page(http: httpx.Client):
    assert [hit["id"] for hit in http.post("/search", json={"query": "rain", "where": {"n": 1}}).json()["hits"]] == [
        "cat"
    ]
    pages = [http.post("/search", json={"query": "rain", "k": 1, "offset": n}).json()["hits"] for n in range(4)]
    assert [len(page) for page in pages] == [1, 1, 1, 0]
    assert {page[0]["id"] for page in pages[:3]} == {"cat", "stocks", "rain"}
    assert http.post("/search", json={"query": "rain", "min_score": 1.1}).json()["hits"] == []
    assert len(http.post("/search", json={"query": "rain", "group_by": "n", "diversity": 0.5}).json()["hits"]) == 3


def test_classify_gives_probabilities_of_the_best_labels_in_order(http: httpx.Client):
    response = http.post("/classify", json={"input": ["rain is expected tomorrow", "the cat sat"], "top": 3}).json()
    best = [row["labels"][0]["label"] for row in response["data"]]
    assert best == ["weather", "pets"]
    assert sum(label["probability"] for label in response["data"][0]["labels"]) == pytest.approx(1, abs=1e-5)


def test_classify_takes_a_single_text(http: httpx.Client):
    data = http.post("/classify", json={"input": "stocks fell", "top": 1}).json()["data"]
    assert [row["index"] for row in data] == [0]
    assert len(data[0]["labels"]) == 1


def test_health_and_the_list_of_routes(http: httpx.Client):
    assert http.get("/health").json() == {"status": "ok"}
    assert "POST /v1/embeddings" in http.get("/").json()["routes"]


def test_floats_are_written_in_their_shortest_form(http: httpx.Client, encoder: DebugEncoder):
    text = http.post("/v1/embeddings", json={"model": "debug", "input": "a"}).text
    written = text.partition('"embedding":[')[2].partition("]")[0].split(",")
    assert written == [json.dumps(float(str(value))) for value in encoder.encode(["a"])[0]]


def test_many_clients_at_once_get_their_own_vectors(http: httpx.Client, encoder: DebugEncoder):
    texts = [f"text number {n}" for n in range(64)]

    def embed(text: str) -> list[float]:
        body = {"model": "debug", "input": text}
        return http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]

    with ThreadPoolExecutor(16) as pool:
        vectors = np.array(list(pool.map(embed, texts)), dtype=np.float32)
    np.testing.assert_array_equal(vectors, encoder.encode(texts))


def test_a_head_of_another_width_is_refused_before_serving(encoder: DebugEncoder):
    head = FittedHead.linear(np.eye(3), np.zeros(3), ("a", "b", "c"), None)
    with pytest.raises(InputError, match="width 3"):
        ServiceState.of(encoder, head=head)


def test_a_proxy_may_ask_with_head(http: httpx.Client):
    assert http.head("/health").status_code == 200
