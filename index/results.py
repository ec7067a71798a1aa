"""What a collection returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

DocumentId: TypeAlias = str | int
"""The caller's own id of a document; ``1`` and ``"1"`` are two ids."""


class Document(NamedTuple):
    """A stored document."""

    id: DocumentId
    text: str
    metadata: dict[str, Any]


class Part(NamedTuple):
    """What one part of a search made of a document.

    :ivar name: "dense", "lexical", or "tokens" of a search with ``rescore``.
    :ivar rank: from 1.
    :ivar score: a cosine, or BM25; of tokens their MaxSim, in [-1, 1].
    """

    name: str
    rank: int
    score: float


class Hit(NamedTuple):
    """A document that was found.

    :ivar score: the cosine of its vector with the query's, in [-1, 1]; in lexical search BM25, the higher the better;
        in hybrid search what the fusion made of both; with ``rescore`` a mean of MaxSim and the cosine, in [-1, 1].
    :ivar parts: of hybrid search and with ``rescore``: where each part that found it had it.
    :ivar highlights: if asked for: where in the text the query's words are, as (start, end) in characters.
    :ivar before: if asked for, and it is a chunk: the chunks of its document before it, in their order, and ``after``
        those behind it.
    """

    id: DocumentId
    score: float
    text: str
    metadata: dict[str, Any]
    parts: tuple[Part, ...] = ()
    highlights: tuple[tuple[int, int], ...] = ()
    before: tuple[Document, ...] = ()
    after: tuple[Document, ...] = ()


class Plan(NamedTuple):
    """How a dense search was made.

    :ivar kind: "exact", all that counts was compared, or "graph".
    :ivar matches: documents that the filter lets through; all of them without one.
    :ivar depth: how many neighbors the graph was asked for, at the last; 0 without it.
    :ivar effort: of that, in the measure of the kind of index (efSearch, nprobe).
    """

    kind: Literal["exact", "graph"]
    matches: int
    depth: int = 0
    effort: int = 0


class Hits(list[Hit]):
    """What one query found, best first.

    :ivar plan: how; None for a search by words alone.
    """

    def __init__(self, hits: Iterable[Hit] = (), plan: Plan | None = None) -> None:
        super().__init__(hits)
        self.plan = plan


class Stats(NamedTuple):
    """What a collection holds, and how it is searched.

    :ivar kind: "flat", every vector is looked at, or a kind of :mod:`index.ann.index_types`; ``why`` says why.
    :ivar recall: share of the true nearest that the index was measured to find, for the worst group of queries.
    :ivar effort: of a search for ten, in the kind's measure (efSearch, nprobe): the least one of the wanted recall.
    :ivar recall_by_group: for each group of queries (:mod:`index.ann.tuning`) and for 1, 10 and 100 nearest.
    :ivar bytes: on disk; None where the engine does not tell.
    :ivar storage: how the vectors are kept; see :data:`index.storage.precision.Storage`.
    :ivar advice: what should be done, most urgent first, where an engine can tell.
    :ivar reembedding: while the vectors of another model are filled in: its fingerprint, and how many are there.
    """

    documents: int
    dim: int
    kind: str
    why: str
    recall: float | None
    effort: int | None
    bytes: int | None
    reembedding: tuple[str, int] | None = None
    recall_by_group: Mapping[str, Mapping[int, float]] | None = None
    storage: str = "float32"
    advice: tuple[str, ...] = ()
