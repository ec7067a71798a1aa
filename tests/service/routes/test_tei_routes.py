"""The native routes of text-embeddings-inference, and Cohere's."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest
from serving import DebugEncoder, serving

from encoder_tools.runtime import OnnxEncoder
from service.serving.state import ServiceState

TEXTS = ["the cat sat", "stocks fell", "rain tomorrow"]


def test_embed(http: httpx.Client, encoder: DebugEncoder):
    vectors = encoder.encode(TEXTS)
    assert np.allclose(http.post("/embed", json={"inputs": TEXTS}).json(), vectors, atol=1e-6)
    assert np.allclose(http.post("/embed", json={"inputs": TEXTS[0]}).json(), vectors[:1], atol=1e-6)
    ids = encoder.tokenize(TEXTS)
    assert np.allclose(http.post("/embed", json={"inputs": ids}).json(), vectors, atol=1e-6)
    query = http.post("/embed", json={"inputs": TEXTS, "prompt_name": "query", "dimensions": 3}).json()
    expected = encoder.cut(encoder.encode_query(TEXTS), 3)
    assert np.allclose(query, expected, atol=1e-6)
    assert http.post("/embed", json={"inputs": "a", "normalize": False}).status_code == 400


@pytest.mark.parametrize(("direction", "kept"), [("right", "first"), ("Left", "last")])
def test_what_is_too_long_is_cut_where_asked_and_counted(
    http: httpx.Client, encoder: DebugEncoder, direction: str, kept: str
):
    text = "first " + "word " * 100 + "last"
    assert http.post("/embed", json={"inputs": text}).status_code == 400
    answer = http.post("/embed", json={"inputs": [text, "a"], "truncate": True, "truncation_direction": direction})
    assert answer.headers["x-truncated-inputs"] == "1"
    words = text.split()
    words = words[:63] if direction == "right" else words[-63:]
    assert kept in words
    assert np.allclose(answer.json()[0], encoder.encode([" ".join(words)])[0], atol=1e-6)


def test_rerank(http: httpx.Client, encoder: DebugEncoder):
    cosines = encoder.encode_document(TEXTS) @ encoder.encode_query(["cat sat"])[0]
    ranks = http.post(
        "/rerank", json={"query": "cat sat", "texts": TEXTS, "raw_scores": True, "return_text": True}
    ).json()
    assert [rank["index"] for rank in ranks] == np.argsort(-cosines).tolist()
    assert np.allclose([rank["score"] for rank in ranks], np.sort(cosines)[::-1], atol=1e-6)
    assert ranks[0]["text"] == TEXTS[ranks[0]["index"]]
    plain = http.post("/rerank", json={"query": "cat sat", "texts": TEXTS}).json()
    assert set(plain[0]) == {"index", "score"}
    assert np.allclose([rank["score"] for rank in plain], (1 + np.sort(cosines)[::-1]) / 2, atol=1e-6)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_rerank_as_cohere_has_it(http: httpx.Client, path: str):
    documents = [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]
    body = {"model": "debug", "query": "stocks fell", "documents": documents, "top_n": 2, "return_documents": True}
    answer = http.post(path, json=body).json()
    assert next(result["index"] for result in answer["results"]) == 1
    assert len(answer["results"]) == 2
    assert answer["results"][0]["document"] == {"text": TEXTS[1]}
    assert all(0 <= result["relevance_score"] <= 1 for result in answer["results"])
    assert answer["usage"]["total_tokens"] == answer["meta"]["tokens"]["input_tokens"] > 0


def test_embed_as_cohere_has_it(http: httpx.Client, encoder: DebugEncoder):
    kinds = ["float", "base64", "binary", "ubinary"]
    body = {"model": "debug", "texts": TEXTS, "input_type": "search_query", "embedding_types": kinds}
    answer = http.post("/v2/embed", json=body).json()
    vectors = encoder.encode_query(TEXTS)
    found = answer["embeddings"]
    assert list(found) == kinds
    assert np.allclose(found["float"], vectors, atol=1e-6)
    assert np.allclose(np.frombuffer(base64.b64decode(found["base64"][1]), "<f4"), vectors[1], atol=1e-6)
    assert found["ubinary"] == np.packbits(vectors > 0, axis=1).tolist()
    assert [[byte + 128 for byte in row] for row in found["binary"]] == found["ubinary"]
    assert answer["meta"]["billed_units"]["input_tokens"] > 0
    long = {"model": "debug", "texts": ["word " * 100], "truncate": "NONE"}
    assert http.post("/v2/embed", json=long).status_code == 400
    assert http.post("/v2/embed", json={**long, "truncate": "START"}).headers["x-truncated-inputs"] == "1"


def test_predict(http: httpx.Client, encoder: DebugEncoder):
    single = http.post("/predict", json={"inputs": TEXTS[0]}).json()
    assert single[0]["label"] == "pets"
    assert sum(entry["score"] for entry in single) == pytest.approx(1, abs=1e-5)
    batch = http.post("/predict", json={"inputs": [TEXTS[0], [TEXTS[1]]]}).json()
    assert [row[0]["label"] for row in batch] == ["pets", "money"]
    raw = http.post("/predict", json={"inputs": TEXTS[0], "raw_scores": True}).json()
    assert raw[0]["score"] > 1
    assert http.post("/predict", json={"inputs": [["a", "b"]]}).status_code == 400


def test_similarity(http: httpx.Client, encoder: DebugEncoder):
    vectors = encoder.encode(["a cat", *TEXTS])
    body = {"inputs": {"source_sentence": "a cat", "sentences": TEXTS}}
    assert np.allclose(http.post("/similarity", json=body).json(), vectors[1:] @ vectors[0], atol=1e-6)
    asked = {**body, "parameters": {"prompt_name": "query"}}
    vectors = encoder.encode_query(["a cat", *TEXTS])
    assert np.allclose(http.post("/similarity", json=asked).json(), vectors[1:] @ vectors[0], atol=1e-6)


def test_tokenize_and_decode():
    with serving(ServiceState.of(OnnxEncoder("default"))) as url:
        text = "Where is my card? Grüße 👋"
        (tokens,) = httpx.post(f"{url}/tokenize", json={"inputs": text}).json()
        assert all(text[token["start"] : token["stop"]] == token["text"] for token in tokens if not token["special"])
        assert any(token["special"] and token["start"] is None for token in tokens)
        (bare,) = httpx.post(f"{url}/tokenize", json={"inputs": text, "add_special_tokens": False}).json()
        assert not any(token["special"] for token in bare)
        ids = [token["id"] for token in tokens]
        assert httpx.post(f"{url}/decode", json={"ids": ids}).json() == [
            "where is my card? gruße"
        ]  # as the model reads it
        assert httpx.post(f"{url}/decode", json={"ids": [[10**9]]}).status_code == 400
        assert httpx.post(f"{url}/tokenize", json={"inputs": text, "prompt_name": "no"}).status_code == 404


def test_info(http: httpx.Client, encoder: DebugEncoder):
    info = http.get("/info").json()
    assert info["model_id"] == "debug"
    assert info["max_input_length"] == 64
    assert info["max_client_batch_size"] == 2048
    assert info["provider"] == "cpu"


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"model": "debug:query"}, "query"),
        ({"model": "debug:document"}, "document"),
        ({"model": "debug", "input_type": "search_query"}, "query"),
        ({"model": "debug", "task": "retrieval.passage"}, "document"),
        ({"model": "debug", "prompt_name": "query"}, "query"),
        ({"model": "debug:query", "input_type": "query"}, "query"),
        ({"model": "alias", "task": "clustering"}, None),
    ],
)
def test_the_words_of_all_clients_mean_one_prompt(
    http: httpx.Client, encoder: DebugEncoder, fields: dict[str, str], prompt: str | None
):
    answer = http.post("/v1/embeddings", json={"input": TEXTS, **fields}).json()
    encode = {"query": encoder.encode_query, "document": encoder.encode_document, None: encoder.encode}[prompt]
    assert np.allclose([row["embedding"] for row in answer["data"]], encode(TEXTS), atol=1e-6)
    assert answer["model"] == fields["model"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"prompt_name": "no"}, 404), ({"prompt_name": "query", "input_type": "document"}, 409), ({"task": "x"}, 404)],
)
def test_prompts_that_are_not_there_or_disagree_are_refused(http: httpx.Client, fields: dict[str, str], status: int):
    assert http.post("/v1/embeddings", json={"model": "debug", "input": "a", **fields}).status_code == status


def test_token_ids_are_refused_unless_the_operator_takes_them(encoder: DebugEncoder):
    with serving(ServiceState.of(encoder)) as url:
        answer = httpx.post(f"{url}/v1/embeddings", json={"model": "debug", "input": [5, 6]})
    assert answer.status_code == 400
    assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]
