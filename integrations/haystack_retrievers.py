"""Components of Haystack that search an :class:`integrations.haystack.EncoderToolsDocumentStore`.

Example:
    >>> from haystack import Document, Pipeline
    >>> from integrations.haystack import EncoderToolsDocumentStore
    >>> from integrations.haystack_retrievers import TextRetriever
    >>> store = EncoderToolsDocumentStore("faq")
    >>> store.write_documents([Document(id="a", content="My card has not arrived.")])
    1
    >>> pipeline = Pipeline()
    >>> _ = pipeline.add_component("retriever", TextRetriever(store, mode="hybrid"))
    >>> hits = pipeline.run({"retriever": {"query": "Where is my bank card?"}})["retriever"]["documents"]
    >>> [hit.id for hit in hits]
    ['a']
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from encoder_tools.errors import InputError
from encoder_tools.extras import require_extra
from index.query.search import Mode
from integrations.haystack import EncoderToolsDocumentStore

require_extra("haystack", "haystack")
from haystack import Document, component, default_from_dict, default_to_dict  # noqa: E402
from haystack.document_stores.types import FilterPolicy  # noqa: E402
from haystack.document_stores.types.filter_policy import apply_filter_policy  # noqa: E402


class _Retriever:
    """What both components have in common.

    :param document_store: that is searched.
    :param filters: of every search, which those of a run replace or, by ``filter_policy``, narrow.
    :param top_k: how many documents.
    :param mode: "dense", "lexical" or "hybrid".
    """

    def __init__(
        self,
        document_store: EncoderToolsDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        mode: Mode = "dense",
        return_embedding: bool = False,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        if not isinstance(document_store, EncoderToolsDocumentStore):
            raise InputError(f"The store is a {type(document_store).__name__}, expected EncoderToolsDocumentStore.")
        self.document_store, self.filters, self.top_k, self.mode = document_store, filters, top_k, mode
        self.return_embedding = return_embedding
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy

    def to_dict(self) -> dict[str, Any]:
        """For Haystack's files of pipelines."""
        data: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            mode=self.mode,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
        )
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From :meth:`to_dict`."""
        store = data["init_parameters"]["document_store"]
        if isinstance(store, dict):
            data["init_parameters"]["document_store"] = EncoderToolsDocumentStore.from_dict(store)
        made: Self = default_from_dict(cls, data)
        return made

    def _search(
        self, query: Any, filters: dict[str, Any] | None, top_k: int | None, vector: list[float] | None = None
    ) -> dict[str, list[Document]]:
        mode: Mode = self.mode if isinstance(query, str) else "dense"
        hits = self.document_store.search(
            query,
            top_k=self.top_k if top_k is None else top_k,
            filters=apply_filter_policy(self.filter_policy, self.filters, filters),
            mode=mode,
            vector=vector,
            return_embedding=self.return_embedding,
        )
        return {"documents": hits}


@component
class TextRetriever(_Retriever):
    """Searches for a text, which the store's model encodes; its options are those of a Haystack retriever, and mode."""

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The documents that match best, best first."""
        return self._search(query, filters, top_k)

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """As :meth:`run`, in a thread."""
        return await asyncio.to_thread(self._search, query, filters, top_k)


@component
class EmbeddingRetriever(_Retriever):
    """Searches for a vector that an embedder made; with its text too, in mode "hybrid"."""

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """The documents that match best, best first."""
        return self._search(*self._query(query_embedding, query, filters, top_k))

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """As :meth:`run`, in a thread."""
        return await asyncio.to_thread(self._search, *self._query(query_embedding, query, filters, top_k))

    def _query(
        self, vector: list[float], query: str | None, filters: dict[str, Any] | None, top_k: int | None
    ) -> tuple[Any, dict[str, Any] | None, int | None, list[float] | None]:
        if self.mode != "hybrid":
            return vector, filters, top_k, None
        if query is None:
            raise InputError("There is no query, which mode 'hybrid' needs beside query_embedding.")
        return query, filters, top_k, vector
