"""A collection as Haystack's document store.

Either Haystack's embedders make the vectors (``dim`` and ``fingerprint``), or the collection's own model does
(``model``): then documents need no embedder in front, and :class:`integrations.haystack_retrievers.TextRetriever` takes
texts.

Example:
    >>> from haystack import Document
    >>> from integrations.haystack import EncoderToolsDocumentStore
    >>> store = EncoderToolsDocumentStore("faq")
    >>> store.write_documents([Document(id="a", content="My card has not arrived.", meta={"lang": "en"})])
    1
    >>> [one.id for one in store.filter_documents({"field": "meta.lang", "operator": "==", "value": "en"})]
    ['a']
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.extras import require_extra
from index.query.search import Mode
from index.results import Document as Stored
from index.results import DocumentId, Hit
from index.storage.precision import Storage
from integrations.filter_language import compared, every
from integrations.haystack_documents import NOT_EMBEDDED, document_of, stored_of
from integrations.haystack_filters import where_of
from integrations.opening import open_or_create, own_encoder, stored_ids, vectors_of

require_extra("haystack", "haystack")
from haystack import Document, default_from_dict, default_to_dict  # noqa: E402
from haystack.document_stores.errors import DuplicateDocumentError  # noqa: E402
from haystack.document_stores.types import DuplicatePolicy  # noqa: E402

_AT_ONCE = 1000


class EncoderToolsDocumentStore:
    """A collection, which is made if there is none. Safe for threads; ``collection`` has all that is not here.

    Documents without an embedding are encoded by the store's model. Where it has none, they are kept for filters and
    the search by words. Embeddings come back as they were given, to the rounding of float32 (or of ``storage``).

    :param folder: of the collection.
    :param model: folder of the exported model that makes the vectors; the shipped model for None, unless
    :param dim: is given: the width of vectors that embedders in the pipeline make, and
    :param fingerprint: names their model, so that vectors of another are rejected.
    :param storage: and ``stemming``: see :meth:`index.Collection.create`.
    :raises FingerprintError: if the collection's vectors are another model's.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        model: str | None = None,
        dim: int | None = None,
        fingerprint: str | None = None,
        storage: Storage = "float32",
        stemming: str | None = None,
    ) -> None:
        if (dim is None) != (fingerprint is None) or (dim is not None and model is not None):
            raise InputError("Expected either model, or both dim and fingerprint of the embedders in the pipeline.")
        self._options = {"folder": str(folder), "model": model, "dim": dim, "fingerprint": fingerprint}
        self._options |= {"storage": storage, "stemming": stemming}
        self.encodes = dim is None
        encoder = own_encoder(model) if dim is None or fingerprint is None else vectors_of(fingerprint, dim)
        self._counted: tuple[int, bool] | None = None  # of which write, whether some documents have no vector
        self.collection = open_or_create(folder, encoder, storage=storage, stemming=stemming)

    def to_dict(self) -> dict[str, Any]:
        """For Haystack's files of pipelines."""
        data: dict[str, Any] = default_to_dict(self, **self._options)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From :meth:`to_dict`."""
        store: Self = default_from_dict(cls, data)
        return store

    def count_documents(self) -> int:
        """How many there are."""
        return self.collection.count()

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many match."""
        return self.collection.count(where=where_of(filters))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Documents that match, with their embeddings; all of them without a filter.

        Strings are compared as they are written, which orders ISO dates that are written in one way.

        :raises haystack.errors.FilterError: for a wrong filter.
        """
        return self._with_embeddings(list(self.collection.scan(where=where_of(filters))))

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Store documents, all or nothing.

        :param policy: for ids that are there: OVERWRITE replaces, SKIP leaves, FAIL and NONE raise.
        :return: how many were written.
        :raises DuplicateDocumentError: see ``policy``; nothing is written.
        """
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise InputError(
                f"The documents are a {type(documents).__name__}, expected a list of Haystack's Documents."
            )
        chosen = self._allowed(documents, policy)
        if not chosen:
            return 0
        vectors = self._vectors(chosen)
        stored = [stored_of(one, embedded=vector is not None) for one, vector in zip(chosen, vectors, strict=True)]
        none = [1.0] + [0.0] * (self.collection.about.dim - 1)  # stands for none, and is no candidate of a search
        return self.collection.upsert(
            [one.id for one in stored],
            [one.text for one in stored],
            [one.metadata for one in stored],
            [none if vector is None else vector for vector in vectors],
        )

    def _vectors(self, documents: Sequence[Document]) -> list[Sequence[float] | None]:
        """Their embeddings, made where there is none but a model and a text."""
        vectors: list[Sequence[float] | None] = [document.embedding for document in documents]
        missing = [n for n, one in enumerate(documents) if one.embedding is None and one.content and self.encodes]
        if missing:
            made = self.collection.opened.model().documents([documents[n].content or "" for n in missing], False)
            for n, vector in zip(missing, made.tolist(), strict=True):
                vectors[n] = vector
        return vectors

    def _allowed(self, documents: Sequence[Document], policy: DuplicatePolicy) -> list[Document]:
        """Those that a policy lets through, in their order."""
        last = {document.id: document for document in documents}
        if policy is DuplicatePolicy.OVERWRITE:
            return list(last.values())
        known = {str(one.id) for one in self.collection.get(list(last)) if one is not None}
        if policy is DuplicatePolicy.SKIP:
            first = {document.id: document for document in reversed(documents)}
            return [first[identifier] for identifier in last if identifier not in known]
        twice = sorted(known) or [name for name, n in Counter(one.id for one in documents).items() if n > 1]
        if twice:
            raise DuplicateDocumentError(f"{len(twice)} ids are there already, or given twice, as {twice[0]!r} is.")
        return list(last.values())

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; unknown ids are no error."""
        if document_ids:
            self.collection.delete(stored_ids(self.collection, document_ids))

    def delete_all_documents(self) -> None:
        """Delete all of them."""
        self.collection.delete_all()

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match; how many were deleted."""
        where = where_of(filters)
        return self.collection.delete_all() if where is None else self.collection.delete(where=where)

    def update_by_filter(self, filters: dict[str, Any], meta: Mapping[str, Any]) -> int:
        """Set fields of the metadata of documents that match; how many were changed."""
        found = list(self.collection.scan(where=where_of(filters)))
        changed = [{**one.metadata, "meta": {**one.metadata.get("meta", {}), **meta}} for one in found]
        return self.collection.set_metadata([one.id for one in found], changed) if found else 0

    def search(
        self,
        query: str | Sequence[float],
        *,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        mode: Mode = "dense",
        vector: Sequence[float] | None = None,
        return_embedding: bool = False,
        **options: Any,
    ) -> list[Document]:
        """Documents and scores, best first.

        :param query: a text, or a vector.
        :param mode: of a text: "dense", "lexical" or "hybrid".
        :param vector: of the text, where the store has no model.
        :param options: others of :meth:`index.Collection.search`.
        """
        where = where_of(filters)
        if mode != "lexical" and self._some_have_no_vector():
            where = every([*([] if where is None else [where]), compared(NOT_EMBEDDED, "$exists", False)])
        given = None if vector is None else [list(vector)]
        hits = self.collection.search(
            query if isinstance(query, str) else np.asarray(query, dtype=np.float32),
            top_k,
            mode=mode,
            where=where,
            vectors=given,
            **options,
        )
        return self._of_hits(hits, return_embedding)

    def _some_have_no_vector(self) -> bool:
        sequence = self.collection.sequence
        if self._counted is None or self._counted[0] != sequence:
            self._counted = sequence, self.collection.count(where={NOT_EMBEDDED: True}) > 0
        return self._counted[1]

    def _of_hits(self, hits: Sequence[Hit], return_embedding: bool) -> list[Document]:
        stored = [Stored(hit.id, hit.text, hit.metadata) for hit in hits]
        documents = self._with_embeddings(stored) if return_embedding else [document_of(one) for one in stored]
        return [replace(document, score=hit.score) for document, hit in zip(documents, hits, strict=True)]

    def _with_embeddings(self, stored: Sequence[Stored]) -> list[Document]:
        documents: list[Document] = []
        for start in range(0, len(stored), _AT_ONCE):
            part = stored[start : start + _AT_ONCE]
            ids: list[DocumentId] = [one.id for one in part]
            documents += map(document_of, part, self.collection.vectors(ids))
        return documents

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The type of each field of the metadata."""
        kinds: dict[str, dict[str, str]] = {}
        for document in self.collection.scan():
            for name, value in document.metadata.get("meta", {}).items():
                kinds.setdefault(name, {"type": type(value).__name__})
        return kinds

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and the greatest number (or else string) of a field; None where there is none."""
        values = self._values([metadata_field])[metadata_field]
        numbers = [value for value in values if isinstance(value, int | float)]
        known: list[Any] = numbers or [value for value in values if isinstance(value, str)]
        return {"min": min(known, default=None), "max": max(known, default=None)}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Different values of a field, sorted, from one on; and how many there are.

        :param search_term: that the values must have in them, in any case.
        """
        values = _distinct(self._values([metadata_field], filters)[metadata_field])
        if search_term is not None:
            values = [value for value in values if search_term.casefold() in str(value).casefold()]
        return values[from_ : from_ + size], len(values)

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """How many different values each field has, among the documents that match."""
        return {name: len(_distinct(values)) for name, values in self._values(metadata_fields, filters).items()}

    def _values(self, fields: Sequence[str], filters: dict[str, Any] | None = None) -> dict[str, list[Any]]:
        """Values of fields of the metadata, by the name that was given, in one pass over what matches."""
        values: dict[str, list[Any]] = {field: [] for field in fields}
        for document in self.collection.scan(where=where_of(filters)):
            meta = document.metadata.get("meta", {})
            for field in fields:
                name = field.removeprefix("meta.")
                if name in meta:
                    values[field].append(meta[name])
        return values

    async def count_documents_async(self) -> int:
        """As :meth:`count_documents`, in a thread."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """As :meth:`filter_documents`, in a thread."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """As :meth:`write_documents`, in a thread."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """As :meth:`delete_documents`, in a thread."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self) -> None:
        """As :meth:`delete_all_documents`, in a thread."""
        await asyncio.to_thread(self.delete_all_documents)


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each once, where 1, 1.0, "1" and true are four."""
    by_kind = {(type(value).__name__, repr(value)): value for value in values}
    return [by_kind[key] for key in sorted(by_kind)]
