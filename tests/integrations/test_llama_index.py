"""LlamaIndex's vector store, by the index and the retrievers that use it, and its filters beside those of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from encoder_tools.errors import FingerprintError, InputError
from integrations.llama_index import EncoderToolsEmbedding, EncoderToolsVectorStore

TEXTS = {"card": "My card has not arrived.", "rate": "Which exchange rate do you use?", "pin": "I forgot my PIN."}


@pytest.fixture(scope="module")
def model() -> EncoderToolsEmbedding:
    return EncoderToolsEmbedding()


@pytest.fixture
def store(tmp_path: Path, model: EncoderToolsEmbedding) -> Iterator[EncoderToolsVectorStore]:
    store = EncoderToolsVectorStore(tmp_path / "faq", fingerprint=model.fingerprint)
    yield store
    if store.client is not None:
        store.client.close()


def index_of(store: EncoderToolsVectorStore, model: EncoderToolsEmbedding) -> VectorStoreIndex:
    nodes = [TextNode(id_=name, text=text, metadata={"n": n}) for n, (name, text) in enumerate(TEXTS.items())]
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=model)


@pytest.mark.parametrize("mode", ["default", "sparse", "text_search", "hybrid", "semantic_hybrid", "mmr"])
def test_an_index_finds_its_nodes_in_every_mode(
    store: EncoderToolsVectorStore, model: EncoderToolsEmbedding, mode: str
):
    options: dict[str, Any] = {"vector_store_query_mode": mode, "similarity_top_k": 2, "alpha": 0.5}
    hits = index_of(store, model).as_retriever(**options).retrieve("exchange rate")
    assert hits[0].node_id == "rate"
    assert hits[0].get_content() == TEXTS["rate"]
    assert hits[0].metadata == {"n": 1}


def test_documents_are_deleted_with_their_nodes_and_all_of_it_is_there_after_the_process_ends(
    store: EncoderToolsVectorStore, model: EncoderToolsEmbedding
):
    context = StorageContext.from_defaults(vector_store=store)
    documents = [Document(id_=name, text=text) for name, text in TEXTS.items()]
    VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=model)
    assert store.client is not None
    store.client.close()
    again = EncoderToolsVectorStore(store.folder, fingerprint=model.fingerprint)
    index = VectorStoreIndex.from_vector_store(again, embed_model=model)
    index.delete_ref_doc("card")
    assert again.client is not None
    assert again.client.count() == 2
    found = index.as_retriever(similarity_top_k=5).retrieve("card")
    assert {hit.node.ref_doc_id for hit in found} == {"rate", "pin"}
    again.clear()
    assert again.get_nodes() == []
    again.client.close()
    with pytest.raises(FingerprintError):
        EncoderToolsVectorStore(store.folder, fingerprint="other")


def test_before_the_first_node_there_is_nothing(store: EncoderToolsVectorStore):
    assert store.query(VectorStoreQuery(query_embedding=[1.0])).ids == []
    assert store.get_nodes() == []
    assert store.add([]) == []
    store.delete("none")
    store.delete_nodes(["none"])
    store.clear()
    assert store.client is None


def test_wrong_queries_are_named(store: EncoderToolsVectorStore, model: EncoderToolsEmbedding):
    index_of(store, model)
    with pytest.raises(InputError, match="has no embedding"):
        store.query(VectorStoreQuery(query_str="x"))
    with pytest.raises(InputError, match="has no query_str"):
        store.query(VectorStoreQuery(mode=VectorStoreQueryMode.TEXT_SEARCH))
    with pytest.raises(InputError, match="The query's mode is 'svm'"):
        store.query(VectorStoreQuery(query_embedding=[1.0], mode=VectorStoreQueryMode.SVM))
    matched = MetadataFilters(filters=[MetadataFilter(key="a", value="b", operator=FilterOperator.TEXT_MATCH)])
    with pytest.raises(InputError, match="text_match"):
        store.get_nodes(filters=matched)
    with pytest.raises(InputError, match="without a dollar"):
        store.get_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="$text", value="card")]))


NAMES = st.sampled_from(["a", "a.b", "tags"])
CONDITIONS = (
    st.builds(
        MetadataFilter,
        key=NAMES,
        value=st.sampled_from([1, 2, 2.5]),
        operator=st.sampled_from([FilterOperator(sign) for sign in ("==", "!=", ">", ">=", "<", "<=")]),
    )
    | st.builds(
        MetadataFilter,
        key=NAMES,
        value=st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=2),
        operator=st.sampled_from([FilterOperator.IN, FilterOperator.NIN]),
    )
    | st.builds(MetadataFilter, key=st.just("tags"), value=st.just("x"), operator=st.just(FilterOperator.CONTAINS))
    | st.builds(
        MetadataFilter,
        key=st.just("tags"),
        value=st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2),
        operator=st.sampled_from([FilterOperator.ANY, FilterOperator.ALL]),
    )
    | st.builds(MetadataFilter, key=st.just("tags"), value=st.none(), operator=st.just(FilterOperator.IS_EMPTY))
)
COMPLETE = {
    "a": st.sampled_from([1, 2, 3]),
    "a.b": st.sampled_from([1, 2]),
    "tags": st.sampled_from([[], ["x"], ["y", "x"]]),
}
FILTERS = st.builds(
    MetadataFilters,
    filters=st.lists(CONDITIONS, min_size=1, max_size=3),
    condition=st.sampled_from([FilterCondition.AND, FilterCondition.OR]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metas=st.lists(st.fixed_dictionaries(COMPLETE), min_size=1, max_size=4), filters=FILTERS)
def test_filters_mean_what_the_simple_store_makes_of_them(
    tmp_path_factory: pytest.TempPathFactory, metas: list[dict[str, Any]], filters: MetadataFilters
):
    compared = [one for one in filters.filters if isinstance(one, MetadataFilter) and one.key == "tags"]
    if any(one.operator.value in ("==", "!=", ">", ">=", "<", "<=", "in", "nin") for one in compared):
        return  # the simple store raises where a list is compared with a number
    store = EncoderToolsVectorStore(tmp_path_factory.mktemp("store") / "c", fingerprint="x")
    simple = SimpleVectorStore()
    for one in (store, simple):
        one.add([TextNode(id_=str(n), text="t", metadata=meta, embedding=[1.0, n]) for n, meta in enumerate(metas)])
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=9, filters=filters)
    assert sorted(store.query(query).ids or []) == sorted(simple.query(query).ids or [])
    store.delete_nodes(filters=filters)
    left = store.client.count() if store.client else 0
    assert left == len(metas) - len(simple.query(query).ids or [])
    if store.client:
        store.client.close()


def test_nodes_keep_their_relations(tmp_path: Path):
    store = EncoderToolsVectorStore(tmp_path / "c", fingerprint="x", storage="float16")
    node = TextNode(
        id_="n", text="t", embedding=[1.0, 2.0], relationships={NodeRelationship.NEXT: RelatedNodeInfo(node_id="m")}
    )
    store.add([node, node])
    (back,) = store.get_nodes(["n"])
    assert back.next_node is not None
    assert back.next_node.node_id == "m"
    assert store.client is not None
    assert store.client.about.storage == "float16"
    store.client.close()
