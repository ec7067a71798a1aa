"""Hits of a collection ranked again by the tokens of their texts, and all its texts made ready for that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError
from encoder_tools.protocols import TokenEncoder
from index.collection.engine import Engine
from index.collection.reads import Reads
from index.query.search import Search
from index.rescoring.rescorer import TokenRescorer, token_encoder
from index.results import Hit, Part

_PREPARED_AT_ONCE = 256


class Rescoring(NamedTuple):
    """What one search needs for it.

    :ivar queries: as texts.
    """

    search: Search
    queries: list[str]
    encoder: TokenEncoder
    tokens: TokenRescorer

    @classmethod
    def checked(cls, opened: Engine, search: Search, queries: Any) -> Rescoring:
        """For queries as a caller passed them.

        :raises InputError: if one is no text, or the collection has no model that gives vectors of tokens.
        """
        if not all(isinstance(query, str) for query in queries):
            raise InputError("rescore='tokens' looks at the words of a query, but a query is no text. Leave it out.")
        return cls(search, list(queries), token_encoder(opened.model().any()), opened.tokens)

    def ranked(self, hits_of_each: list[list[Hit]], cosines: list[NDArray[np.float32]]) -> list[list[Hit]]:
        """The page of each query.

        :param hits_of_each: all that are ranked again, best first, and their cosines with the query.
        """
        return [
            self._page(query, hits, own) for query, hits, own in zip(self.queries, hits_of_each, cosines, strict=True)
        ]

    def _page(self, query: str, hits: list[Hit], cosines: NDArray[np.float32]) -> list[Hit]:
        if not hits:
            return []
        scores, alike = self.tokens.scores(self.encoder, query, [hit.text for hit in hits], cosines)
        ranks = np.empty(len(hits), dtype=np.int64)
        ranks[np.argsort(-alike, kind="stable")] = np.arange(1, len(hits) + 1)
        ranked = []
        for at in np.argsort(-scores, kind="stable").tolist():
            own = hits[at].parts or (Part(self.search.mode, at + 1, hits[at].score),)
            parts = (*own, Part("tokens", int(ranks[at]), float(alike[at])))
            ranked.append(hits[at]._replace(score=float(scores[at]), parts=parts))
        page = ranked[self.search.offset : self.search.offset + self.search.k]
        return [hit for hit in page if hit.score >= self.search.min_score]


def prepare(opened: Engine, reads: Reads, *, show_progress: bool | None) -> int:
    """Make and keep the token vectors of all documents, and forget those of others; how many texts there are."""
    encoder = token_encoder(opened.model().any())
    from tqdm import tqdm

    def texts() -> Iterator[str]:
        return (document.text for document in reads.scan(None))

    hidden = not (sys.stderr.isatty() if show_progress is None else show_progress)
    every, count = texts(), 0
    with tqdm(total=reads.count(None), unit="text", desc="tokens", disable=hidden) as bar:
        while some := list(islice(every, _PREPARED_AT_ONCE)):
            opened.tokens.codes(encoder, some)
            count += len(some)
            bar.update(len(some))
    opened.tokens.prune(encoder, texts())
    return count
