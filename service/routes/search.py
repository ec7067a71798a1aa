"""``POST /search``: the nearest texts of the loaded collection."""

from __future__ import annotations

from starlette.requests import Request

from index import Collection, Hit
from service.bodies import read_body
from service.calls import call_of
from service.errors import ApiError
from service.responses import JsonResponse
from service.schemas import SearchHit, SearchPart, SearchRequest, SearchResponse, Usage
from service.state import ServiceState, state_of

_OPTIONS = ("mode", "where", "min_score", "offset", "fusion", "weights", "group_by", "diversity", "highlight")


async def search(request: Request) -> JsonResponse:
    """Search by meaning, by words, or by both."""
    state = state_of(request)
    collection = _collection_of(state)
    body = await read_body(request, SearchRequest, state.limits.max_body_bytes)
    vectors, tokens = None, 0
    if body.mode != "lexical":
        vectors, tokens = await state.embedder.embed_query(body.query, call_of(request), truncate=bool(body.truncate))
    options = {name: getattr(body, name) for name in _OPTIONS}
    (hits,) = await state.worker.run(collection.search_many, [body.query], body.k, vectors=vectors, **options)
    return JsonResponse(SearchResponse([_hit(hit) for hit in hits], Usage(tokens, tokens)))


def _hit(hit: Hit) -> SearchHit:
    parts = [SearchPart(*part) for part in hit.parts]
    return SearchHit(hit.id, hit.score, hit.text, hit.metadata, parts, list(hit.highlights))


def _collection_of(state: ServiceState) -> Collection:
    if state.collection is None:
        raise ApiError(
            404,
            "This server has no collection. Start it with: encoder-tools serve --collection FOLDER",
            code="collection_not_found",
        )
    return state.collection
