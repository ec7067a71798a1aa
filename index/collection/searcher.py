"""The verbs of a collection that search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from encoder_tools.errors import FingerprintError, InputError
from index.collection.encoding import is_list, is_vector
from index.collection.opened import OpenCollection
from index.query.fusion import Fused, Fusion
from index.query.search import Mode, Search
from index.results import Document, DocumentId, Hit
from index.storage.schema import About
from index.text.highlight import highlights
from index.text.words import Words
from index.validation import check_ids, texts_for_ids


class SearchedCollection(OpenCollection):
    """By meaning, by words, by both, by likeness."""

    def search(self, query: Any, k: int = 10, **options: Any) -> list[Hit]:
        """The ``k`` documents nearest to a text or a vector (dim,), best first; all of them if there are fewer.

        :param options: see :meth:`search_many`.
        :raises InputError: for a query that is neither, a zero vector, NaN, ``k`` below 1, or a wrong option.
        """
        if not isinstance(query, str) and not is_vector(query):
            raise InputError("The query is neither a text nor one vector (dim,). Use search_many for several.")
        return self.search_many([query], k, **options)[0]

    def search_many(
        self,
        queries: Any,
        k: int = 10,
        *,
        mode: Mode = "dense",
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        offset: int = 0,
        fusion: Fusion = "rrf",
        weights: Mapping[str, float] | None = None,
        group_by: str | None = None,
        diversity: float = 0.0,
        highlight: bool = False,
        vectors: Any = None,
    ) -> list[list[Hit]]:
        """Hits for each of several texts, or of several vectors (n, dim).

        :param mode: "dense", by the cosine of the vectors; "lexical", by words (texts alone); "hybrid", by both.
        :param where: among those that match a filter, exactly; see :mod:`index.query.filters`.
        :param min_score: leave out what scores less.
        :param offset: leave out as many of the best, for further pages.
        :param fusion: of a hybrid search: "rrf", by ranks; "weighted", by scores brought to [0, 1].
        :param weights: of its parts, "dense" and "lexical"; 1 if not given.
        :param group_by: a field: of the documents with the same value there, such as the chunks of one text, the best.
        :param diversity: of a dense search: how much being unlike the hits before counts, from 0 to 1 (MMR).
        :param highlight: say where in each text the query's words are (texts alone).
        :param vectors: (n, dim) of the queries' texts, if they are there already.
        :raises InputError: as in :meth:`search`.
        """
        asked = Search.checked(k, offset, mode, where, min_score, fusion, weights, group_by, diversity)
        self._check_open()
        if not is_list(queries):
            raise InputError(f"Queries are a {type(queries).__name__}, expected a list. Use search for a single one.")
        if len(queries) == 0:
            return []
        texts = texts_for_ids(queries, len(queries)) if "lexical" in asked.parts else None
        if highlight and not all(isinstance(query, str) for query in queries):
            raise InputError("highlight looks for the words of a query, but a query is no text. Leave it out.")
        if vectors is not None and (not is_list(vectors) or len(vectors) != len(queries)):
            raise InputError(f"vectors are not one for each of {len(queries)} queries. Pass (n, dim).")
        marked = list(queries) if highlight else None
        return self._hits(asked, queries if vectors is None else vectors, texts, marked)

    def search_like(self, identifier: DocumentId, k: int = 10, *, where: Mapping[str, Any] | None = None) -> list[Hit]:
        """The ``k`` documents nearest to a stored one, itself left out.

        :raises InputError: if there is no such document, or as in :meth:`search`.
        """
        (checked,) = check_ids([identifier])
        asked = Search.checked(k, 0, "dense", where, None, "rrf", None, None, 0.0)
        with self._at_rest() as rest:
            row = rest.reader.row_of(checked)
            if row is None:
                raise InputError(f"There is no document {checked!r} in {self._folder}.")
            (block,) = rest.reader.vectors([row])
            found = replace(asked, k=asked.k + 1).run(rest, None, block.vectors)[0]
            others = [hit for hit in found if hit.row != row][: asked.k]
            documents = rest.reader.by_rows([hit.row for hit in others])
            return [_hit(documents[hit.row], hit) for hit in others]

    def _hits(self, asked: Search, queries: Any, texts: list[str] | None, marked: list[str] | None) -> list[list[Hit]]:
        dense, first = "dense" in asked.parts, self._live.about
        while True:
            model = self._model() if dense else None
            vectors = None if model is None else model.queries(queries)
            with self._at_rest() as rest:
                if model is not None and rest.about != model.about:
                    self._check_texts(queries, first)
                    continue  # the collection was re-embedded meanwhile
                if vectors is not None:
                    rest.builder.remember(vectors)
                found = asked.run(rest, texts, vectors)
                documents = rest.reader.by_rows(sorted({hit.row for hits in found for hit in hits}))
                if marked is None:
                    return [[_hit(documents[hit.row], hit) for hit in hits] for hits in found]
                return [
                    _highlighted([(documents[hit.row], hit) for hit in hits], rest.reader.words, text)
                    for hits, text in zip(found, marked, strict=True)
                ]

    def _check_texts(self, queries: Any, about: About) -> None:
        """Vectors cannot be made anew."""
        if not all(isinstance(query, str) for query in queries):
            raise FingerprintError(
                f"{self._folder} was re-embedded with another model meanwhile: a vector of {about.fingerprint} has no "
                "meaning there. Encode the query again."
            )


def _hit(document: Document, found: Fused, spans: tuple[tuple[int, int], ...] = ()) -> Hit:
    return Hit(document.id, found.score, document.text, document.metadata, found.parts, spans)


def _highlighted(hits: list[tuple[Document, Fused]], words: Words, text: str) -> list[Hit]:
    query = words.query(text)
    return [_hit(document, hit, highlights(document.text, words, query)) for document, hit in hits]
