"""LangChain's vector store: its own standard suites, and what they do not ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from encoder_tools.errors import FingerprintError, InputError
from index import Collection
from integrations.langchain import EncoderToolsEmbeddings, EncoderToolsVectorStore


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:  # type: ignore[override]
        store = EncoderToolsVectorStore(tmp_path / "store", self.get_embeddings())
        yield store
        store.collection.close()


class TestStandardOfSmallVectors(TestStandard):
    """The same over the smallest storage."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:  # type: ignore[override]
        store = EncoderToolsVectorStore(tmp_path / "store", self.get_embeddings(), storage="int8")
        yield store
        store.collection.close()


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def filled(self, tmp_path: Path) -> Iterator[None]:
        type(self).store = EncoderToolsVectorStore(tmp_path / "store")
        type(self).store.add_texts([f"text number {number}" for number in range(6)])
        yield
        type(self).store.collection.close()

    store: EncoderToolsVectorStore

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return _retriever  # type: ignore[return-value]

    @property
    def retriever_constructor_params(self) -> dict[str, object]:
        return {"store": type(self).store}

    @property
    def retriever_query_example(self) -> str:
        return "a number"


def _retriever(store: EncoderToolsVectorStore, k: int = 4) -> BaseRetriever:
    return store.as_retriever(search_kwargs={"k": k, "mode": "hybrid"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EncoderToolsVectorStore]:
    store = EncoderToolsVectorStore(tmp_path / "faq")
    store.add_documents(
        [
            Document(id="card", page_content="My card has not arrived.", metadata={"lang": "en", "year": 2024}),
            Document(id="rate", page_content="Which exchange rate do you use?", metadata={"lang": "en", "year": 2026}),
            Document(id="karte", page_content="Meine Karte ist nicht angekommen.", metadata={"lang": "de"}),
        ]
    )
    yield store
    store.collection.close()


def test_every_kind_of_search(store: EncoderToolsVectorStore):
    assert store.similarity_search("Where is my bank card?", k=1)[0].id == "card"
    assert [one.id for one in store.similarity_search("exchange", k=3, mode="lexical")] == ["rate"]
    assert [one.id for one in store.similarity_search("card", k=3, filter={"year": {"$gte": 2025}})] == ["rate"]
    (document, score), *_ = store.similarity_search_with_score("My card has not arrived.", k=2)
    assert document.id == "card"
    assert score == pytest.approx(1, abs=1e-5)
    vector = store.embeddings.embed_query("Where is my bank card?")
    assert store.similarity_search_by_vector(vector, k=1)[0].id == "card"
    assert store.max_marginal_relevance_search("card", k=2, lambda_mult=1.0)[0].id == "card"
    assert len(store.max_marginal_relevance_search_by_vector(vector, k=2)) == 2
    relevant = store.similarity_search_with_relevance_scores("My card has not arrived.", k=3)
    assert all(0 <= relevance <= 1 for _, relevance in relevant)
    few = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"k": 3, "score_threshold": 0.99})
    assert [one.id for one in few.invoke("My card has not arrived.")] == ["card"]


def test_what_was_stored_is_there_after_the_process_ends(store: EncoderToolsVectorStore):
    folder = store.collection.folder
    store.collection.close()
    again = EncoderToolsVectorStore(folder)
    assert [one.metadata for one in again.get_by_ids(["karte", "none", "card"])] == [
        {"lang": "de"},
        {"lang": "en", "year": 2024},
    ]
    again.delete(filter={"lang": "en"})
    assert again.collection.count() == 1
    again.delete()
    assert again.collection.count() == 0
    again.collection.close()


def test_vectors_of_another_model_are_rejected(tmp_path: Path):
    first, other = DeterministicFakeEmbedding(size=6), DeterministicFakeEmbedding(size=6)
    EncoderToolsVectorStore(tmp_path / "store", first, fingerprint="first").collection.close()
    with pytest.raises(FingerprintError):
        EncoderToolsVectorStore(tmp_path / "store", other, fingerprint="other")


def test_of_an_id_twice_the_last_text_counts_and_missing_ids_are_made(tmp_path: Path):
    embeddings = EncoderToolsEmbeddings()
    store = EncoderToolsVectorStore.from_texts(["a", "b"], embeddings, ids=["1", "1"], folder=tmp_path / "store")
    assert [one.page_content for one in store.get_by_ids(["1", "1"])] == ["b"]
    assert len(set(store.add_texts(["c", "d"], [{"n": 1}, {"n": 2}]))) == 2
    with pytest.raises(InputError, match="The number of metadatas is 1, expected 2"):
        store.add_texts(["c", "d"], [{}])
    with pytest.raises(InputError, match="folder"):
        EncoderToolsVectorStore.from_texts(["a"], embeddings)
    store.collection.close()


def test_a_collection_with_numbers_for_ids_can_be_used(tmp_path: Path):
    embeddings = EncoderToolsEmbeddings()
    with Collection.create(tmp_path / "store", embeddings.encoder) as collection:
        collection.upsert([7, "08"], ["seven", "eight"])
    store = EncoderToolsVectorStore(tmp_path / "store", embeddings)
    assert [one.id for one in store.get_by_ids(["7", "08", "8"])] == ["7", "08"]
    assert store.get_by_ids(["²", "-", "9" * 30]) == []  # no numbers, or none of 64 bits
    store.delete(["7", "²", "9" * 30])
    assert list(store.collection.ids()) == ["08"]
    store.collection.close()
