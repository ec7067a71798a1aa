"""A collection as LangChain's vector store, and the shipped model as its embeddings.

Example:
    >>> from langchain_core.documents import Document
    >>> from integrations.langchain import EncoderToolsVectorStore
    >>> store = EncoderToolsVectorStore("faq")
    >>> store.add_documents([Document(id="a", page_content="My card has not arrived.", metadata={"lang": "en"})])
    ['a']
    >>> [hit.id for hit in store.similarity_search("Where is my bank card?", k=1, filter={"lang": "en"})]
    ['a']
    >>> retriever = store.as_retriever(search_kwargs={"k": 3, "mode": "hybrid"})
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.extras import require_extra
from encoder_tools.protocols import TextEncoder
from index.query.search import Mode
from index.results import Hit
from index.storage.precision import Storage
from integrations.opening import FrameworkEncoder, fingerprint_of, open_or_create, own_encoder, stored_ids

require_extra("langchain", "langchain_core")
from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402
from langchain_core.vectorstores import VectorStore  # noqa: E402


class EncoderToolsEmbeddings(Embeddings):
    """An exported model as LangChain's embeddings.

    :param model: its folder; the shipped model for None.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        self.encoder: TextEncoder = own_encoder(model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Unit vectors of texts that are searched."""
        vectors: list[list[float]] = self.encoder.encode_document(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The unit vector of a text that is searched for."""
        vector: list[float] = self.encoder.encode_query([text])[0].tolist()
        return vector


class EncoderToolsVectorStore(VectorStore):
    """A collection, which is made if there is none. Safe for threads; ``collection`` has all that is not here.

    Filters are those of :mod:`index.query.filters`. Every search takes ``mode``: "dense", "lexical" or "hybrid".

    :param folder: of the collection.
    :param embedding: makes the vectors; the shipped model for None.
    :param fingerprint: names the model of ``embedding``, so that vectors of another are rejected; None takes its class
        and what it says its model is.
    :param storage: and ``stemming``: see :meth:`index.Collection.create`.
    :raises FingerprintError: if the collection's vectors are another model's.
    """

    def __init__(
        self,
        folder: str | Path,
        embedding: Embeddings | None = None,
        *,
        fingerprint: str | None = None,
        storage: Storage = "float32",
        stemming: str | None = None,
    ) -> None:
        self._embedding = EncoderToolsEmbeddings() if embedding is None else embedding
        encoder = _encoder_of(self._embedding, fingerprint)
        self.collection = open_or_create(folder, encoder, storage=storage, stemming=stemming)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        folder: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """A store in ``folder`` with these texts.

        :raises InputError: without a folder.
        """
        if folder is None:
            raise InputError("There is no folder, expected folder=, in which the collection is kept.")
        store = cls(folder, embedding, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @property
    def embeddings(self) -> Embeddings:
        """What makes the vectors."""
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Store texts, replacing those with the same ids; of the same id twice the last text counts.

        :return: their ids, made up where there is none.
        """
        texts = list(texts)
        for name, values in (("metadatas", metadatas), ("ids", ids)):
            if values is not None and len(values) != len(texts):
                raise InputError(f"The number of {name} is {len(values)}, expected {len(texts)}, one for each text.")
        made = [identifier or str(uuid.uuid4()) for identifier in ids or [None] * len(texts)]
        last = {identifier: position for position, identifier in enumerate(made)}
        self.collection.upsert(
            list(last),
            [texts[position] for position in last.values()],
            None if metadatas is None else [metadatas[position] for position in last.values()],
        )
        return made

    def add_documents(self, documents: list[Document], **options: Any) -> list[str]:
        """Store documents; see :meth:`add_texts`."""
        ids = options.pop("ids", None) or [document.id for document in documents]
        texts, metadatas = [one.page_content for one in documents], [one.metadata for one in documents]
        return self.add_texts(texts, metadatas, ids=ids, **options)

    def delete(self, ids: list[str] | None = None, *, filter: Mapping[str, Any] | None = None, **_: Any) -> bool:  # noqa: A002
        """Delete documents by id, or those that match a filter, or all without either; unknown ids are no error."""
        if filter is not None:
            self.collection.delete(where=filter)
        elif ids is None:
            self.collection.delete_all()
        elif ids:
            self.collection.delete(stored_ids(self.collection, ids))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents by id; those that are not there are left out."""
        documents = self.collection.get(stored_ids(self.collection, ids))
        return [
            Document(id=str(one.id), page_content=one.text, metadata=one.metadata)
            for one in documents
            if one is not None
        ]

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """The documents nearest to a text; options as in :meth:`similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        mode: Mode = "dense",
        **options: Any,
    ) -> list[tuple[Document, float]]:
        """Documents and scores, the higher the better: cosines, BM25 in mode "lexical", ranks' sums in mode "hybrid".

        :param options: others of :meth:`index.Collection.search`.
        """
        hits = self.collection.search(query, k, where=filter, mode=mode, **options)
        return [(_document(hit), hit.score) for hit in hits]

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """The documents nearest to a vector."""
        vector = np.asarray(embedding, dtype=np.float32)
        return [_document(hit) for hit in self.collection.search(vector, k, where=filter, **options)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Documents that are near a text and unlike each other, of the 100 nearest, whatever ``fetch_k`` says."""
        return self.similarity_search(query, k, diversity=1 - lambda_mult, **options)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """As :meth:`max_marginal_relevance_search`, for a vector."""
        return self.similarity_search_by_vector(embedding, k, diversity=1 - lambda_mult, **options)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: min(max(score, 0.0), 1.0)  # a cosine; LangChain's relevance has no sign


def _document(hit: Hit) -> Document:
    return Document(id=str(hit.id), page_content=hit.text, metadata=hit.metadata)


def _encoder_of(embedding: Embeddings, fingerprint: str | None) -> TextEncoder:
    if isinstance(embedding, EncoderToolsEmbeddings):
        return embedding.encoder

    def queries(texts: list[str]) -> list[list[float]]:
        return [embedding.embed_query(text) for text in texts]

    return FrameworkEncoder(embedding.embed_documents, queries, fingerprint or fingerprint_of(embedding))
