"""``POST /search``: the nearest texts of the loaded collection."""

from __future__ import annotations

from starlette.requests import Request

from index import Collection
from service.bodies import read_body
from service.errors import ApiError
from service.responses import JsonResponse
from service.schemas import SearchHit, SearchRequest, SearchResponse, Usage
from service.state import ServiceState, state_of


async def search(request: Request) -> JsonResponse:
    """Search by meaning."""
    state = state_of(request)
    collection = _collection_of(state)
    body = await read_body(request, SearchRequest, state.limits.max_body_bytes)
    vectors, tokens = await state.embedder.embed_query(body.query, truncate=bool(body.truncate))
    hits = await state.worker.run(collection.search, vectors[0], body.k)
    found = [SearchHit(hit.id, hit.score, hit.text, hit.metadata) for hit in hits]
    return JsonResponse(SearchResponse(found, Usage(tokens, tokens)))


def _collection_of(state: ServiceState) -> Collection:
    if state.collection is None:
        raise ApiError(
            404,
            "This server has no collection. Start it with: encoder-tools serve --collection FOLDER",
            code="collection_not_found",
        )
    return state.collection
