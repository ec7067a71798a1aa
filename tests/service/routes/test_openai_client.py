"""The unmodified ``openai`` client against a running server."""

from __future__ import annotations

import numpy as np
import openai
import pytest
from serving import DebugEncoder

TEXTS = ["one two", "three", "four five six"]


def vectors_of(response: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    return np.array([row.embedding for row in response.data], dtype=np.float32)


def test_base64_is_the_clients_default_and_gives_the_same_vectors_to_the_bit(
    client: openai.OpenAI, encoder: DebugEncoder
):
    response = client.embeddings.create(model="debug", input=TEXTS)
    np.testing.assert_array_equal(vectors_of(response), encoder.encode(TEXTS))


def test_floats_give_the_same_vectors_to_the_bit(client: openai.OpenAI, encoder: DebugEncoder):
    response = client.embeddings.create(model="debug", input=TEXTS, encoding_format="float")
    np.testing.assert_array_equal(vectors_of(response), encoder.encode(TEXTS))


def test_a_single_text_gives_one_row(client: openai.OpenAI, encoder: DebugEncoder):
    response = client.embeddings.create(model="debug", input="one two")
    assert len(response.data) == 1
    np.testing.assert_array_equal(vectors_of(response), encoder.encode(["one two"]))


@pytest.mark.parametrize("wrapped", [False, True], ids=["ids", "lists of ids"])
def test_token_ids_give_the_vector_of_their_text(client: openai.OpenAI, encoder: DebugEncoder, wrapped: bool):
    ids = encoder.tokenize(["one two"])
    response = client.embeddings.create(model="debug", input=ids if wrapped else ids[0])
    np.testing.assert_array_equal(vectors_of(response), encoder.encode(["one two"]))


def test_rows_come_in_the_order_of_the_inputs_whatever_their_length(client: openai.OpenAI, encoder: DebugEncoder):
    texts = [" ".join(["word"] * n + [f"w{n}"]) for n in (3, 50, 1, 20)] * 300
    response = client.embeddings.create(model="debug", input=texts)
    assert [row.index for row in response.data] == list(range(1200))
    np.testing.assert_array_equal(vectors_of(response), encoder.encode(texts))


def test_usage_counts_the_models_tokens(client: openai.OpenAI):
    usage = client.embeddings.create(model="debug", input=["one two", "three"]).usage
    assert (usage.prompt_tokens, usage.total_tokens) == (5, 5)


def test_dimensions_cuts_and_normalizes_again(client: openai.OpenAI, encoder: DebugEncoder):
    vectors = vectors_of(client.embeddings.create(model="debug", input=TEXTS, dimensions=3))
    cut = encoder.encode(TEXTS)[:, :3]
    np.testing.assert_allclose(vectors, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("dimensions", [0, -1, 9, 10**30])
def test_dimensions_out_of_range_are_a_bad_request(client: openai.OpenAI, dimensions: int):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="debug", input="a", dimensions=dimensions)
    assert caught.value.param == "dimensions"


def test_an_unknown_model_is_not_found_in_the_form_the_client_reads(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="gpt", input="a")
    assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")


def test_user_and_fields_of_other_servers_are_ignored(client: openai.OpenAI):
    response = client.embeddings.create(model="alias", input="a", user="me", extra_body={"priority": 3})
    assert response.model == "alias"


def test_a_text_over_the_limit_is_refused_and_cut_only_on_demand(client: openai.OpenAI, encoder: DebugEncoder):
    text = "word " * 100
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="debug", input=["fine", text])
    assert caught.value.code == "context_length_exceeded"
    assert "101 tokens" in caught.value.message
    response = client.embeddings.create(model="debug", input=text, extra_body={"truncate": True})
    assert response.usage.prompt_tokens == encoder.max_length


def test_models_are_listed_and_described(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["debug", "alias", "debug:query"]
    assert client.models.retrieve("alias").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such")
