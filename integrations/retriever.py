"""A collection as a plain retriever, in the forms of txtai and DSPy; neither needs to be installed.

Example:
    >>> from encoder_tools import OnnxEncoder
    >>> from index import Collection
    >>> from integrations.retriever import Retriever
    >>> collection = Collection.create("faq", OnnxEncoder())
    >>> collection.upsert(["a", "b"], ["My card has not arrived.", "Exchange rates"])
    2
    >>> retriever = Retriever(collection, k=1)
    >>> retriever("Where is my bank card?").passages
    ['My card has not arrived.']
    >>> [hit["id"] for hit in retriever.search("Where is my bank card?", 1)]
    ['a']
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from index import Collection
from index.query.search import Mode
from index.results import DocumentId, Hits
from integrations.filter_language import Where


@dataclass(frozen=True)
class Passages:
    """What one query found, best first.

    :ivar passages: texts, ``indices`` their ids, as DSPy's retrievers name them.
    :ivar scores: the higher the better.
    """

    passages: list[str]
    indices: list[DocumentId]
    scores: list[float]
    metadata: list[dict[str, Any]]


class Retriever:
    """Searches a collection with the same options again and again.

    Called with a text it gives passages, as the retrievers of DSPy do; :meth:`search` and :meth:`batchsearch` give
    dictionaries, as those of txtai do.

    :param collection: that is searched.
    :param k: how many passages, if a call does not say.
    :param mode: "dense", "lexical" or "hybrid".
    :param where: a filter; see :mod:`index.query.filters`.
    :param options: others of :meth:`index.Collection.search`.
    """

    def __init__(
        self, collection: Collection, k: int = 10, *, mode: Mode = "hybrid", where: Where | None = None, **options: Any
    ) -> None:
        self.collection, self.k = collection, k
        self._options: dict[str, Any] = {"mode": mode, "where": where, **options}

    def __call__(self, query: str, k: int | None = None) -> Passages:
        """The passages that match best."""
        hits = self.collection.search(query, self.k if k is None else k, **self._options)
        return Passages(
            [hit.text for hit in hits],
            [hit.id for hit in hits],
            [hit.score for hit in hits],
            [hit.metadata for hit in hits],
        )

    forward = __call__

    def search(self, query: str, limit: int | None = None) -> list[dict[str, Any]]:
        """Hits with id, text, score and metadata."""
        return self.batchsearch([query], limit)[0]

    def batchsearch(self, queries: Sequence[str], limit: int | None = None) -> list[list[dict[str, Any]]]:
        """Hits of each query."""
        found = self.collection.search_many(list(queries), self.k if limit is None else limit, **self._options)
        return [_as_txtai(hits) for hits in found]


def _as_txtai(hits: Hits) -> list[dict[str, Any]]:
    return [{"id": hit.id, "text": hit.text, "score": hit.score, "metadata": hit.metadata} for hit in hits]
