"""Bodies of collections and of searches in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from index.rescoring.rescorer import Rescore
from index.storage.precision import Storage
from service.schemas.common import MAX_HITS, MAX_OFFSET, Text, Texts, Usage

Id = Annotated[str, msgspec.Meta(min_length=1)] | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Ids = Annotated[list[Id], msgspec.Meta(min_length=1, extra_json_schema={"uniqueItems": True})]
Finite = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Field = Annotated[str, msgspec.Meta(pattern="^[^$]")]
DeleteWhere = Annotated[dict[str, Any], msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/Condition"})]
Where = Annotated[dict[str, Any], msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/Filter"})]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the parts of a hybrid search; one must be above 0."""

    dense: Weight = 1.0
    lexical: Weight = 1.0


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /search`` and ``POST /v1/collections/{name}/search``: the ``k`` texts that each query finds.

    One of ``query`` and ``queries``. All but these, ``collection`` and ``truncate`` is as in
    :meth:`index.collection.collection.Collection.search_many`.

    :ivar collection: which one, for ``/search``; None means the only one.
    :ivar explain: whether the answer says how the search was made.
    """

    query: Text | None = None
    queries: Texts | None = None
    collection: str | None = None
    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_HITS)] = 10
    mode: Literal["dense", "lexical", "hybrid"] = "dense"
    where: Where | None = None
    min_score: Finite | None = None
    offset: Annotated[int, msgspec.Meta(ge=0, le=MAX_OFFSET)] = 0
    fusion: Literal["rrf", "weighted"] = "rrf"
    weights: Weights | None = None
    group_by: Field | None = None
    diversity: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    highlight: bool = False
    neighbors: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    rescore: Rescore | None = None
    explain: bool = False
    truncate: bool | None = None


@dataclass(frozen=True)
class SearchPart:
    """Where one part of a search had a text, and with what score: "dense", "lexical" or "tokens"."""

    name: str
    rank: int
    score: float


@dataclass(frozen=True)
class Neighbor:
    """A chunk before or after one that was found."""

    id: str | int
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SearchHit:
    """A text that was found.

    :ivar score: the cosine with the query; of a lexical search BM25, of a hybrid one what the fusion made of both; with
        ``rescore`` a mean of MaxSim and the cosine.
    :ivar parts: of a hybrid search, and with ``rescore``.
    :ivar highlights: if asked for: where the query's words are, as (start, end) in Unicode characters.
    :ivar before: if ``neighbors`` asks for them, of a chunk: those before it in its document, and ``after`` behind it.
    """

    id: str | int
    score: float
    text: str
    metadata: dict[str, Any]
    parts: list[SearchPart]
    highlights: list[tuple[int, int]]
    before: list[Neighbor]
    after: list[Neighbor]


@dataclass(frozen=True)
class SearchPlan:
    """How the vectors were searched.

    :ivar kind: "exact", all that count were compared, or "graph".
    :ivar matches: texts that the filter lets through.
    :ivar depth: neighbors that the graph was asked for, ``effort`` what that takes; 0 without it.
    """

    kind: str
    matches: int
    depth: int
    effort: int


@dataclass(frozen=True)
class SearchResponse:
    """Hits, best first; of the first query in ``hits``, of each in ``results``. ``plan`` if ``explain`` asks for it."""

    hits: list[SearchHit]
    results: list[list[SearchHit]]
    usage: Usage
    plan: SearchPlan | None = None


class CreateCollectionRequest(msgspec.Struct, frozen=True):
    """``POST /v1/collections``; ``model`` None takes the first, ``storage`` is how vectors are kept."""

    name: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    model: str | None = None
    storage: Storage = "float32"


@dataclass(frozen=True)
class CollectionCard:
    """A collection: how many documents, of which model's vectors, and how it is searched.

    :ivar kind: "flat", or the kind of index; ``recall`` is what that was measured to find of the true ten nearest.
    :ivar bytes: on disk; null where a database does not tell.
    :ivar advice: what should be done, most urgent first, where a database can tell.
    """

    name: str
    model: str
    documents: int
    dim: int
    kind: str
    recall: float | None
    bytes: int | None
    storage: str = "float32"
    advice: list[str] = field(default_factory=list)
    object: str = "collection"


@dataclass(frozen=True)
class CollectionList:
    """``GET /v1/collections``."""

    data: list[CollectionCard]
    object: str = "list"


class NewDocument(msgspec.Struct, frozen=True):
    """A document to store."""

    id: Id
    text: Text
    metadata: dict[str, Any] | None = None


class UpsertRequest(msgspec.Struct, frozen=True):
    """``POST /v1/collections/{name}/documents``: store documents, replacing those of the same ids; all or nothing."""

    documents: Annotated[list[NewDocument], msgspec.Meta(min_length=1)]
    truncate: bool | None = None


@dataclass(frozen=True)
class UpsertResponse:
    """How many documents were written."""

    written: int
    usage: Usage


class GetRequest(msgspec.Struct, frozen=True):
    """``POST /v1/collections/{name}/documents/get``."""

    ids: Ids


@dataclass(frozen=True)
class StoredDocument:
    """A stored document."""

    id: str | int
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class GetResponse:
    """The documents in the order of the ids, None where there is none."""

    documents: list[StoredDocument | None]


class DeleteRequest(msgspec.Struct, frozen=True):
    """``POST /v1/collections/{name}/documents/delete``: by ids, by a filter with a condition, or all; one of them."""

    ids: Ids | None = None
    where: DeleteWhere | None = None
    all: bool = False


@dataclass(frozen=True)
class Deleted:
    """How many documents there were."""

    deleted: int


@dataclass(frozen=True)
class Dropped:
    """The collection that is no more."""

    dropped: str
