"""Haystack's document store: its own standard suites, its filters against Haystack's own reading, its retrievers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as standard
from haystack.testing import document_store_async as standard_async
from haystack.utils.filters import document_matches_filter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encoder_tools.errors import InputError
from integrations.haystack import EncoderToolsDocumentStore
from integrations.haystack_retrievers import EmbeddingRetriever, TextRetriever


def same(received: list[Document], expected: list[Document]) -> None:
    """Equal but for the rounding of embeddings, which are stored as float32 of length one."""
    assert len(received) == len(expected)
    by_id = {document.id: document for document in received}
    for document in expected:
        other = by_id[document.id]
        left, right = document.to_dict(flatten=False), other.to_dict(flatten=False)
        assert {**left, "embedding": None} == {**right, "embedding": None}
        assert (document.embedding is None) == (other.embedding is None)
        if document.embedding is not None and other.embedding is not None:
            np.testing.assert_allclose(other.embedding, document.embedding, rtol=1e-5, atol=1e-6)


class TestStandard(
    standard.DocumentStoreBaseExtendedTests,
    standard.CountDocumentsByFilterTest,
    standard.CountUniqueMetadataByFilterTest,
    standard.GetMetadataFieldsInfoTest,
    standard.GetMetadataFieldMinMaxTest,
    standard.GetMetadataFieldUniqueValuesTest,
):
    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[EncoderToolsDocumentStore]:  # type: ignore[override]
        store = EncoderToolsDocumentStore(tmp_path / "store", dim=768, fingerprint="the suite's vectors")
        yield store
        store.collection.close()

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        same(received, expected)

    def test_write_documents(self, document_store: EncoderToolsDocumentStore):  # type: ignore[override]
        documents = [Document(content="one"), Document(content="two")]
        assert document_store.write_documents(documents) == 2
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents(documents)


class TestStandardAsync(
    standard_async.CountDocumentsAsyncTest,
    standard_async.WriteDocumentsAsyncTest,
    standard_async.DeleteDocumentsAsyncTest,
    standard_async.DeleteAllAsyncTest,
):
    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[EncoderToolsDocumentStore]:
        store = EncoderToolsDocumentStore(tmp_path / "store", dim=768, fingerprint="the suite's vectors")
        yield store
        store.collection.close()

    async def test_write_documents_async(self, document_store: EncoderToolsDocumentStore):  # type: ignore[override]
        assert await document_store.write_documents_async([Document(content="one")]) == 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EncoderToolsDocumentStore]:
    store = EncoderToolsDocumentStore(tmp_path / "faq")
    store.write_documents(
        [
            Document(id="card", content="My card has not arrived.", meta={"lang": "en"}),
            Document(id="rate", content="Which exchange rate do you use?", meta={"lang": "en"}),
            Document(id="scan", blob=ByteStream(b"\x00\xff", mime_type="image/png"), meta={"lang": None}),
        ]
    )
    yield store
    store.collection.close()


def test_a_store_with_a_model_needs_no_embedder(store: EncoderToolsDocumentStore):
    pipeline = Pipeline()
    pipeline.add_component("retriever", TextRetriever(store, top_k=3))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["integrations"])  # pipelines are kept as files
    for one in (pipeline, again):
        documents = one.run({"retriever": {"query": "Where is my bank card?"}})["retriever"]["documents"]
        assert [document.id for document in documents] == ["card", "rate"]  # what has no text has no vector
        assert documents[0].score is not None
        assert documents[0].score > documents[1].score
    narrowed = TextRetriever(
        store,
        mode="hybrid",
        filters={"field": "lang", "operator": "==", "value": "en"},
        filter_policy=FilterPolicy.MERGE,
    )
    found = narrowed.run("card", filters={"field": "id", "operator": "!=", "value": "card"})["documents"]
    assert [document.id for document in found] == ["rate"]


async def test_retrievers_run_in_async_pipelines(store: EncoderToolsDocumentStore):
    assert (await TextRetriever(store).run_async("card", top_k=1))["documents"][0].id == "card"
    vector = store.filter_documents({"field": "id", "operator": "==", "value": "rate"})[0].embedding
    assert vector is not None
    retriever = EmbeddingRetriever(store, top_k=1, return_embedding=True)
    (hit,) = (await retriever.run_async(vector))["documents"]
    np.testing.assert_allclose(hit.embedding, vector)
    hybrid = EmbeddingRetriever(store, mode="hybrid")
    assert hybrid.run(vector, "exchange rate")["documents"][0].id == "rate"
    with pytest.raises(InputError, match="no query"):
        hybrid.run(vector)


def test_all_that_a_document_holds_comes_back(tmp_path: Path):
    store = EncoderToolsDocumentStore(tmp_path / "store", dim=3, fingerprint="x")
    documents = [
        Document(id="1", content="", meta={"a.b": {"c": [1, None, "é"]}}, embedding=[3.0, 4.0, 12.0]),
        Document(id="2", content=None, blob=ByteStream(b"\x01", meta={"k": 1}, mime_type="a/b")),
        Document(id="3", content="x", sparse_embedding=SparseEmbedding([1, 5], [0.5, 2.0])),
    ]
    assert store.write_documents(documents) == 3
    same(store.filter_documents(), documents)
    assert [one.id for one in store.search([1.0, 0.0, 0.0])] == ["1"]  # the others have no vector
    assert store.write_documents(documents, DuplicatePolicy.SKIP) == 0
    twice = [Document(id="4", content="first"), Document(id="4", content="second")]
    with pytest.raises(DuplicateDocumentError):
        store.write_documents(twice)
    assert store.write_documents(twice, DuplicatePolicy.SKIP) == 1
    assert [one.text for one in store.collection.get(["4"]) if one] == ["first"]
    assert store.write_documents(twice, DuplicatePolicy.OVERWRITE) == 1
    assert [one.text for one in store.collection.get(["4"]) if one] == ["second"]
    assert store.delete_by_filter({}) == 4
    store.collection.close()


VALUES = st.sampled_from([None, 1, 2, 2.5, -3, "a", "b", "", "2024-01-01", "2025-06-30"])
METAS = st.dictionaries(st.sampled_from(["x", "y"]), VALUES, max_size=2)
FIELDS = st.sampled_from(["meta.x", "meta.y", "x", "meta.z", "meta.x.deep"])
COMPARED = st.builds(
    lambda field, operator, value: {"field": field, "operator": operator, "value": value},
    FIELDS,
    st.sampled_from(["==", "!="]),
    VALUES,
)
AMONG = st.builds(
    lambda field, operator, value: {"field": field, "operator": operator, "value": value},
    FIELDS,
    st.sampled_from(["in", "not in"]),
    st.lists(VALUES, max_size=3),
)
FILTERS = st.recursive(
    COMPARED | AMONG,
    lambda inner: st.builds(
        lambda operator, conditions: {"operator": operator, "conditions": conditions},
        st.sampled_from(["AND", "OR", "NOT"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncoderToolsDocumentStore]:
    store = EncoderToolsDocumentStore(tmp_path_factory.mktemp("store") / "c", dim=2, fingerprint="x")
    yield store
    store.collection.close()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metas=st.lists(METAS, min_size=1, max_size=5), filters=FILTERS)
def test_filters_mean_what_haystack_says_they_mean(
    shared: EncoderToolsDocumentStore, metas: list[dict[str, Any]], filters: dict[str, Any]
):
    shared.delete_all_documents()
    documents = [Document(id=str(number), content="x", meta=meta) for number, meta in enumerate(metas)]
    shared.write_documents(documents)
    expected = [document.id for document in documents if document_matches_filter(filters, document)]
    assert [document.id for document in shared.filter_documents(filters)] == expected
    assert shared.count_documents_by_filter(filters) == len(expected)


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "meta.x", "operator": ">", "value": "words"},
        {"field": "meta.x", "operator": "in", "value": "a"},
        {"field": "content", "operator": "==", "value": "a"},
        {"field": "meta.x", "operator": "~", "value": 1},
        {"field": "meta.x", "operator": "==", "value": math.nan},
        {"operator": "XOR", "conditions": []},
        {"operator": "AND"},
        {"operator": "AND", "conditions": None},
        ["a"],
    ],
)
def test_wrong_filters_are_named(shared: EncoderToolsDocumentStore, filters: Any):
    with pytest.raises(FilterError):
        shared.filter_documents(filters)


def test_wrong_arguments_are_named(tmp_path: Path, store: EncoderToolsDocumentStore):
    with pytest.raises(InputError, match="either model, or both"):
        EncoderToolsDocumentStore(tmp_path / "x", dim=3)
    with pytest.raises(InputError, match="expected EncoderToolsDocumentStore"):
        TextRetriever("store")  # type: ignore[arg-type]
