"""Clients of others, unmodified, against a running server; ``docs/guides/clients.md`` says what each needs."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from serving import serving

from encoder_tools.runtime import OnnxEncoder
from heads import FittedHead
from index import Collection
from service.serving.state import ServiceState

ROOT = Path(__file__).parents[3]
TEXTS = ["My card has not arrived yet.", "Oxygen was discovered by Scheele.", "Ein Satz auf Deutsch."]
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # what these libraries do among themselves is not ours
]


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder("default")


@pytest.fixture(scope="module")
def served(encoder: OnnxEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    collection = Collection.create(tmp_path_factory.mktemp("texts") / "collection", encoder)
    collection.upsert(["card", "oxygen", "german"], TEXTS, [{"n": n} for n in range(3)])
    vectors = encoder.encode(TEXTS[:2])
    head = FittedHead.linear(20 * vectors, np.zeros(2), ("card", "science"), encoder.fingerprint)
    with serving(ServiceState.of(encoder, ("default",), collection, head)) as url:
        yield url


@pytest.fixture(scope="module", autouse=True)
def swept() -> Iterator[None]:
    """Some of these libraries leave their connections to the collector; that is to happen here, not in other tests."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client calls home from here."""
    for name, value in (
        ("HAYSTACK_TELEMETRY_ENABLED", "False"),
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ("LANGSMITH_TRACING", "false"),
        ("NO_PROXY", "127.0.0.1"),
    ):
        monkeypatch.setenv(name, value)
    # read once, when it is imported; Haystack asks this server through its client, and that asks nobody when offline
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def close(found: Any, expected: Any) -> bool:
    return bool(np.allclose(np.asarray(found, dtype=np.float32), expected, atol=2e-5))


def test_openai_async(served: str, encoder: OnnxEncoder):
    async def go() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{served}/v1", api_key="any") as client:
            return await asyncio.gather(*(client.embeddings.create(model="default", input=text) for text in TEXTS))

    answers = asyncio.run(go())
    assert close([answer.data[0].embedding for answer in answers], encoder.encode(TEXTS))


def test_openai_batches_and_roles(served: str, encoder: OnnxEncoder):
    with openai.OpenAI(base_url=f"{served}/v1", api_key="any") as client:
        answer = client.embeddings.create(model="default:document", input=TEXTS, dimensions=128)
    assert close([row.embedding for row in answer.data], encoder.encode_document(TEXTS, dim=128))


def test_langchain_embeddings(served: str, encoder: OnnxEncoder):
    from langchain_openai import OpenAIEmbeddings

    options: dict[str, Any] = {"base_url": f"{served}/v1", "api_key": "any", "check_embedding_ctx_length": False}
    documents = OpenAIEmbeddings(model="default:document", **options)
    queries = OpenAIEmbeddings(model="default:query", **options)
    assert close(documents.embed_documents(TEXTS), encoder.encode_document(TEXTS))
    assert close(queries.embed_query("where is my card?"), encoder.encode_query(["where is my card?"])[0])
    assert close(asyncio.run(queries.aembed_query("card")), encoder.encode_query(["card"])[0])


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> str:
    """An encoding of tiktoken that needs no download: every byte is a token."""
    import tiktoken
    from tiktoken import registry

    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("cl100k_base", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setitem(registry.ENCODINGS, "cl100k_base", encoding)
    return "cl100k_base"


def test_langchains_foreign_token_ids_are_refused_and_the_flag_is_named(served: str, foreign: str):
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(model="default", base_url=f"{served}/v1", api_key="any", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        embeddings.embed_documents(TEXTS)


def test_langchains_token_ids_are_decoded_where_the_operator_says_so(encoder: OnnxEncoder, foreign: str):
    from langchain_openai import OpenAIEmbeddings

    from service.serving.openai_tokens import decoder_of

    state = ServiceState(decode_ids=decoder_of(foreign))
    state.add_model(encoder, ("default",))
    with serving(state) as url:
        embeddings = OpenAIEmbeddings(model="default", base_url=f"{url}/v1", api_key="any")
        assert close(embeddings.embed_documents(TEXTS), encoder.encode(TEXTS))
        bad = httpx.post(f"{url}/v1/embeddings", json={"model": "default", "input": [70_000]})
        assert bad.status_code == 400


def test_a_langchain_retriever(served: str):
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(
        model="default", base_url=f"{served}/v1", api_key="any", check_embedding_ctx_length=False
    )
    retriever = InMemoryVectorStore.from_texts(TEXTS, embeddings).as_retriever(search_kwargs={"k": 1})
    assert retriever.invoke("who found oxygen?")[0].page_content == TEXTS[1]


def test_a_langchain_retriever_over_a_collection_of_the_server(served: str):
    """The few lines of ``docs/guides/clients.md``, as they stand there."""
    (code,) = re.findall(
        r"```python\n(# a retriever.*?)```", (ROOT / "docs" / "guides" / "clients.md").read_text(), re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:8080", served), names)  # noqa: S102 - our own documentation
    (found,) = names["retriever"].invoke("who found oxygen?")
    assert found.page_content == TEXTS[1]
    assert found.metadata == {"n": 1}


def test_llama_index_openai_like(served: str, encoder: OnnxEncoder):
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    model = OpenAILikeEmbedding(model_name="default", api_base=f"{served}/v1", api_key="any", embed_batch_size=2)
    assert close(model.get_text_embedding_batch(TEXTS), encoder.encode(TEXTS))
    assert close(model.get_query_embedding("card"), encoder.encode(["card"])[0])


def test_llama_index_text_embeddings_inference(served: str, encoder: OnnxEncoder):
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    model = TextEmbeddingsInference(model_name="default", base_url=served, text_instruction=" ", query_instruction=" ")
    assert close(model.get_text_embedding_batch(TEXTS), encoder.encode(TEXTS))


def test_haystack_openai(served: str, encoder: OnnxEncoder):
    from haystack import Document
    from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
    from haystack.utils import Secret

    options: dict[str, Any] = {"model": "default", "api_base_url": f"{served}/v1", "api_key": Secret.from_token("any")}
    assert close(OpenAITextEmbedder(**options).run("card")["embedding"], encoder.encode(["card"])[0])
    documents = OpenAIDocumentEmbedder(**options).run([Document(content=text) for text in TEXTS])["documents"]
    assert close([document.embedding for document in documents], encoder.encode(TEXTS))


def test_haystack_text_embeddings_inference(served: str, encoder: OnnxEncoder):
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.embedders.huggingface_api import (
        HuggingFaceAPIDocumentEmbedder,
        HuggingFaceAPITextEmbedder,
    )
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    options: dict[str, Any] = {
        "api_type": "text_embeddings_inference",
        "api_params": {"url": served},
        "token": Secret.from_token("any"),
        "truncate": None,
        "normalize": None,
    }
    assert close(HuggingFaceAPITextEmbedder(**options).run("card")["embedding"], encoder.encode(["card"])[0])
    documents = [Document(content=text) for text in TEXTS]
    found = HuggingFaceAPIDocumentEmbedder(**options).run(documents)["documents"]
    assert close([document.embedding for document in found], encoder.encode(TEXTS))
    ranked = HuggingFaceTEIRanker(url=served, top_k=2).run(query="who found oxygen?", documents=documents)["documents"]
    assert ranked[0].content == TEXTS[1]
    assert len(ranked) == 2


def test_litellm(served: str, encoder: OnnxEncoder):
    import litellm

    answer = litellm.embedding("openai/default", input=TEXTS, api_base=f"{served}/v1", api_key="any")
    assert close([row["embedding"] for row in answer.data], encoder.encode(TEXTS))
    assert answer.usage.prompt_tokens > 0
    ranked = litellm.rerank(
        "infinity/default", query="who found oxygen?", documents=TEXTS, top_n=1, api_base=served, api_key="any"
    )
    assert ranked.results[0]["index"] == 1


def test_cohere(served: str, encoder: OnnxEncoder):
    import cohere

    client = cohere.ClientV2(api_key="any", base_url=served)
    ranked = client.rerank(model="default", query="who found oxygen?", documents=TEXTS, top_n=2)
    assert [result.index for result in ranked.results][0] == 1  # noqa: RUF015
    embedded = client.embed(
        model="default", texts=TEXTS, input_type="search_document", embedding_types=["float", "ubinary"]
    )
    assert close(embedded.embeddings.float_, encoder.encode_document(TEXTS))
    assert embedded.embeddings.ubinary == np.packbits(encoder.encode_document(TEXTS) > 0, axis=1).tolist()


def test_a_langchain_reranker_of_cohere(served: str):
    from langchain_cohere import CohereRerank

    reranker = CohereRerank(model="default", cohere_api_key="any", base_url=served, top_n=1)
    assert reranker.rerank(TEXTS, "who found oxygen?")[0]["index"] == 1


def test_the_curl_lines_of_the_documentation(served: str):
    text = (ROOT / "docs" / "guides" / "clients.md").read_text()
    lines = [line for line in re.findall(r"^curl .*(?:\n  .*)*", text, re.MULTILINE)]
    assert len(lines) >= 8
    for line in lines:
        command = line.replace("http://127.0.0.1:8080", served).replace("curl ", "curl -sS --fail-with-body ", 1)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert done.stdout
