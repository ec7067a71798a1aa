"""Searches: queries to vectors, one consistent state, hits with their documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.protocols import FloatMatrix
from index.collection.chunk_store import place_of
from index.collection.encoding import is_list
from index.collection.engine import Engine
from index.collection.rescored import Rescoring
from index.query.fusion import Fused
from index.query.search import Search
from index.query.view import DocumentReader
from index.results import Document, DocumentId, Hit, Hits
from index.storage.schema import About
from index.text.highlight import highlights
from index.text.words import Words
from index.validation import check_ids, texts_for_ids

_MOST_NEIGHBORS = 100


class Searcher:
    """Runs checked searches.

    :param opened: the collection that is searched.
    """

    def __init__(self, opened: Engine) -> None:
        self._opened = opened

    def search(self, search: Search, queries: Any, *, vectors: Any, highlight: bool, neighbors: Any) -> list[Hits]:
        """Hits of several texts, or of several vectors (n, dim).

        :param vectors: (n, dim) of the queries' texts, if they have been encoded already.
        :param highlight: give each hit the spans of the query's words.
        :param neighbors: how many chunks before and after each hit that is a chunk are given with it.
        :raises InputError: for queries of another kind than the search needs.
        """
        self._opened.check_open()
        count = checked_integer(neighbors, "neighbors", 0, _MOST_NEIGHBORS)
        if not is_list(queries):
            raise InputError(f"Queries are a {type(queries).__name__}, expected a list. Use search for a single one.")
        if len(queries) == 0:
            return []
        texts = texts_for_ids(queries, len(queries)) if "lexical" in search.parts else None
        if highlight and not all(isinstance(query, str) for query in queries):
            raise InputError("highlight looks for the words of a query, but a query is no text. Leave it out.")
        if vectors is not None and (not is_list(vectors) or len(vectors) != len(queries)):
            raise InputError(f"vectors are not one for each of {len(queries)} queries. Pass (n, dim).")
        rescoring = None if search.rescore is None else Rescoring.checked(self._opened, search, queries)
        extras = _Extras(list(queries) if highlight else None, count, rescoring)
        given = queries if vectors is None else vectors
        return self._opened.run(lambda: self._hits(search, given, texts, extras))

    def search_like(self, identifier: DocumentId, search: Search) -> Hits:
        """Hits of a stored document's vector, without the document.

        :raises InputError: if there is no such document.
        """
        (checked,) = check_ids([identifier])
        return self._opened.run(lambda: self._like(checked, search))

    def _like(self, checked: DocumentId, search: Search) -> Hits:
        with self._opened.read_view() as view:
            row = view.reader.rows_of_ids([checked]).get(checked)
            if row is None:
                raise InputError(f"There is no document {checked!r} in {self._opened.folder}.")
            hits = replace(search, k=search.k + 1).run(view, None, view.vectors_of([row]))[0]
            others = [hit for hit in hits if hit.row != row][: search.k]
            documents = view.reader.by_rows([hit.row for hit in others])
            return Hits([_hit(documents[hit.row], hit) for hit in others], view.plans[-1])

    def _hits(self, search: Search, queries: Any, texts: list[str] | None, extras: _Extras) -> list[Hits]:
        # The queries are encoded before the state is read, so that no transaction waits for a model. A re-embedding
        # that ends in between makes the vectors useless: texts are then encoded again by the new model.
        dense, first = "dense" in search.parts or extras.rescoring is not None, self._opened.about
        while True:
            model = self._opened.model() if dense else None
            vectors = None if model is None else model.queries(queries)
            with self._opened.read_view() as view:
                if model is not None and view.about != model.about:
                    self._check_texts(queries, first)
                    continue  # the collection was re-embedded meanwhile
                if vectors is not None:
                    view.remember(vectors)
                rankings = (search.before_rescoring if search.rescore else search).run(view, texts, vectors)
                documents = view.reader.by_rows(sorted({hit.row for hits in rankings for hit in hits}))
                plan = view.plans[-1] if view.plans else None
                found = [[_hit(documents[hit.row], hit) for hit in hits] for hits in rankings]
                hits_of_each = extras.given(found, view.reader)
                if extras.rescoring is not None and vectors is not None:
                    cosines = _cosines(view.reader, rankings, vectors)
            if extras.rescoring is not None:  # outside: no transaction waits for a model
                hits_of_each = extras.rescoring.ranked(hits_of_each, cosines)
            return [Hits(hits, plan) for hits in hits_of_each]

    def _check_texts(self, queries: Any, about: About) -> None:
        """Vectors cannot be made anew."""
        if not all(isinstance(query, str) for query in queries):
            raise FingerprintError(
                f"{self._opened.folder} was re-embedded with another model meanwhile: a vector of {about.fingerprint} "
                "has no meaning there. Encode the query again."
            )


class _Extras(NamedTuple):
    """What hits are given beside their documents.

    :ivar queries: texts whose words are highlighted; None for none.
    :ivar neighbors: how many chunks before and after a chunk.
    :ivar rescoring: by which they are ranked again.
    """

    queries: list[str] | None
    neighbors: int
    rescoring: Rescoring | None

    def given(self, found: list[list[Hit]], reader: DocumentReader) -> list[list[Hit]]:
        """Hits with it."""
        if self.queries is not None:
            found = [_highlighted(hits, reader.words, text) for hits, text in zip(found, self.queries, strict=True)]
        if self.neighbors:
            found = [[_with_neighbors(hit, reader, self.neighbors) for hit in hits] for hits in found]
        return found


def _cosines(reader: DocumentReader, rankings: list[list[Fused]], vectors: FloatMatrix) -> list[NDArray[np.float32]]:
    """Of each query's hits with it."""
    stored = reader.vectors_by_row({hit.row for hits in rankings for hit in hits})
    return [
        np.array([stored[hit.row] @ vector for hit in hits], dtype=np.float32)
        for hits, vector in zip(rankings, vectors, strict=True)
    ]


def _hit(document: Document, fused: Fused) -> Hit:
    return Hit(document.id, fused.score, document.text, document.metadata, fused.parts)


def _highlighted(hits: list[Hit], words: Words, text: str) -> list[Hit]:
    query = words.query(text)
    return [hit._replace(highlights=highlights(hit.text, words, query)) for hit in hits]


def _with_neighbors(hit: Hit, reader: DocumentReader, count: int) -> Hit:
    place = place_of(hit)
    if place is None:
        return hit
    source, number = place

    before = [f"{source}#{one}" for one in range(max(0, number - count), number)]
    after = [f"{source}#{one}" for one in range(number + 1, number + count + 1)]
    documents = reader.by_rows(sorted(reader.rows_of_ids([*before, *after]).values()))
    chunks = {one.id: one for one in documents.values() if place_of(one) is not None}

    def there(names: list[str]) -> tuple[Document, ...]:
        return tuple(chunks[name] for name in names if name in chunks)

    return hit._replace(before=there(before), after=there(after))
