"""A collection as LlamaIndex's vector store.

Vectors are made by LlamaIndex's embedding model, which may be the one that is shipped here.

Example:
    >>> from llama_index.core import StorageContext, VectorStoreIndex
    >>> from llama_index.core.schema import TextNode
    >>> from integrations.llama_index import EncoderToolsEmbedding, EncoderToolsVectorStore
    >>> model = EncoderToolsEmbedding()
    >>> store = EncoderToolsVectorStore("faq", fingerprint=model.fingerprint)
    >>> context = StorageContext.from_defaults(vector_store=store)
    >>> nodes = [TextNode(id_="a", text="My card has not arrived."), TextNode(id_="b", text="Exchange rates")]
    >>> index = VectorStoreIndex(nodes, storage_context=context, embed_model=model)
    >>> [hit.node_id for hit in index.as_retriever(similarity_top_k=1).retrieve("Where is my bank card?")]
    ['a']
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.extras import require_extra
from encoder_tools.protocols import TextEncoder
from index import Collection
from index.results import Hits
from index.storage.precision import Storage
from integrations.filter_language import COMPARISONS, Where, absent, compared, every, one_of, plain
from integrations.opening import is_collection, open_or_create, own_encoder, vectors_of

require_extra("llama-index", "llama_index.core")
from llama_index.core.base.embeddings.base import BaseEmbedding  # noqa: E402
from llama_index.core.bridge.pydantic import PrivateAttr  # noqa: E402
from llama_index.core.schema import BaseNode, MetadataMode  # noqa: E402
from llama_index.core.vector_stores.types import (  # noqa: E402
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict  # noqa: E402

_NODE = "_node_id"
_MODES = {
    VectorStoreQueryMode.DEFAULT: "dense",
    VectorStoreQueryMode.MMR: "dense",
    VectorStoreQueryMode.SPARSE: "lexical",
    VectorStoreQueryMode.TEXT_SEARCH: "lexical",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
}


class EncoderToolsEmbedding(BaseEmbedding):
    """An exported model as LlamaIndex's embedding model.

    :param model: its folder; the shipped model for None.
    """

    _encoder: TextEncoder = PrivateAttr()

    def __init__(self, model: str | Path | None = None, **options: Any) -> None:
        super().__init__(model_name=str(model or "encoder-tools"), **options)
        self._encoder = own_encoder(model)

    @property
    def fingerprint(self) -> str:
        """Names the vectors; see :attr:`encoder_tools.protocols.TextEncoder.fingerprint`."""
        return self._encoder.fingerprint

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._encoder.encode_document(texts).tolist()
        return vectors

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._encoder.encode_query([query])[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class EncoderToolsVectorStore(BasePydanticVectorStore):
    """A collection, which is made with the first nodes if there is none; their vectors say how wide it is.

    :param folder: of the collection.
    :param fingerprint: names the embedding model, so that vectors of another are rejected.
    :param storage: and ``stemming``: see :meth:`index.Collection.create`.
    :raises FingerprintError: if the collection's vectors are of a model with another name.
    """

    stores_text: bool = True
    folder: str
    fingerprint: str
    storage: Storage = "float32"
    stemming: str | None = None
    _collection: Collection | None = PrivateAttr(default=None)

    def __init__(
        self,
        folder: str | Path,
        *,
        fingerprint: str,
        storage: Storage = "float32",
        stemming: str | None = None,
        **options: Any,
    ) -> None:
        fields: dict[str, Any] = {
            "folder": str(folder),
            "fingerprint": fingerprint,
            "storage": storage,
            "stemming": stemming,
        }
        super().__init__(**fields, **options)
        if is_collection(folder):
            with Collection.open(folder, None) as known:
                dim = known.about.dim
            self._open(dim)

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex serializes it by."""
        return "EncoderToolsVectorStore"

    @property
    def client(self) -> Collection | None:
        """The collection; None before the first nodes."""
        return self._collection

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Store nodes with their embeddings, replacing those with the same ids.

        :return: their ids.
        """
        if not nodes:
            return []
        last = {node.node_id: node for node in nodes}
        vectors = [node.get_embedding() for node in last.values()]
        self._open(len(vectors[0])).upsert(
            list(last),
            [node.get_content(metadata_mode=MetadataMode.NONE) for node in last.values()],
            [{**node_to_metadata_dict(node, remove_text=True), _NODE: node.node_id} for node in last.values()],
            vectors,
        )
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Delete the nodes of a document."""
        if self._collection is not None:
            self._collection.delete(where=compared("ref_doc_id", "$eq", ref_doc_id))

    def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **_: Any) -> None:
        """Delete nodes that have one of the ids, and match the filters."""
        where = _where(filters, node_ids=node_ids)
        if self._collection is not None and where is not None:
            self._collection.delete(where=where)

    def clear(self) -> None:
        """Delete all nodes."""
        if self._collection is not None:
            self._collection.delete_all()

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Nodes that have one of the ids, and match the filters; all of them without either."""
        if self._collection is None:
            return []
        found = self._collection.scan(where=_where(filters, node_ids=node_ids))
        return [metadata_dict_to_node(document.metadata, text=document.text) for document in found]

    def query(self, query: VectorStoreQuery, **_: Any) -> VectorStoreQueryResult:
        """The best nodes, by vectors, by words, or by both.

        ``alpha`` of a hybrid query is the weight of the vectors, 1 less it that of the words; ``mmr_threshold`` of an
        MMR query is 1 for nearness alone.

        :raises InputError: for a mode or filter that there is not, or without what the mode needs.
        """
        mode = _MODES.get(query.mode)
        if mode is None:
            raise InputError(f"The query's mode is {query.mode.value!r}, expected one of {', '.join(_MODES)}.")
        if self._collection is None:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        # an index whose nodes are all in the store passes an empty list of those that it knows, and means no limit
        where = _where(query.filters, query.node_ids or None, query.doc_ids or None)
        return _result(self._search(self._collection, query, mode, where))

    def _search(self, collection: Collection, query: VectorStoreQuery, mode: Any, where: Where | None) -> Hits:
        options: dict[str, Any] = {"mode": mode, "where": where}
        if mode == "hybrid" and query.alpha is not None:
            options["weights"] = {"dense": query.alpha, "lexical": 1 - query.alpha}
            options["fusion"] = "weighted"
        if query.mode is VectorStoreQueryMode.MMR:
            options["diversity"] = 0.5 if query.mmr_threshold is None else 1 - query.mmr_threshold
        k = query.similarity_top_k if mode != "hybrid" else query.hybrid_top_k or query.similarity_top_k
        vector, text = query.query_embedding, query.query_str
        if mode != "lexical" and vector is None:
            raise InputError(f"The query has no embedding, which mode {query.mode.value!r} needs.")
        if mode != "dense" and text is None:
            raise InputError(f"The query has no query_str, which mode {query.mode.value!r} needs.")
        if mode == "dense":
            return collection.search(np.asarray(vector, dtype=np.float32), k, **options)
        return collection.search(text or "", k, vectors=None if vector is None else [vector], **options)

    def _open(self, dim: int) -> Collection:
        if self._collection is None:
            encoder = vectors_of(self.fingerprint, dim)
            self._collection = open_or_create(self.folder, encoder, storage=self.storage, stemming=self.stemming)
        return self._collection


def _result(hits: Hits) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(
        nodes=[metadata_dict_to_node(hit.metadata, text=hit.text) for hit in hits],
        similarities=[hit.score for hit in hits],
        ids=[str(hit.id) for hit in hits],
    )


def _where(
    filters: MetadataFilters | None, node_ids: list[str] | None = None, doc_ids: list[str] | None = None
) -> Where | None:
    parts = [] if filters is None or not filters.filters else [_of_several(filters)]
    parts += [] if node_ids is None else [compared(_NODE, "$in", node_ids)]
    parts += [] if doc_ids is None else [compared("ref_doc_id", "$in", doc_ids)]
    return every(parts) if parts else None


def _of_several(filters: MetadataFilters) -> Where:
    parts = [_of_several(one) if isinstance(one, MetadataFilters) else _of_one(one) for one in filters.filters]
    if filters.condition is FilterCondition.OR:
        return one_of(parts)
    if filters.condition is FilterCondition.NOT:
        return {"$not": one_of(parts)}
    return every(parts)


def _of_one(condition: MetadataFilter) -> Where:
    field, operator, value = plain(condition.key), condition.operator, condition.value
    if operator.value in COMPARISONS:
        return compared(field, COMPARISONS[operator.value], value)
    if operator in (FilterOperator.IN, FilterOperator.NIN):
        return compared(field, f"${operator.value}", value)
    if operator is FilterOperator.CONTAINS:
        return compared(field, "$contains", value)
    if operator in (FilterOperator.ANY, FilterOperator.ALL) and isinstance(value, list) and value:
        parts = [compared(field, "$contains", one) for one in value]
        return one_of(parts) if operator is FilterOperator.ANY else every(parts)
    if operator is FilterOperator.IS_EMPTY:
        return one_of([absent(field), compared(field, "$eq", [])])
    raise InputError(
        f"The filter of {condition.key!r} has operator {operator.value!r} and value {value!r}, which a collection does "
        "not have. Search by words instead (mode text_search)."
    )
