"""Maps of collections."""

from __future__ import annotations

from service.errors import ApiError
from service.http.endpoints import Context, Endpoint
from service.responses import JsonResponse
from service.schemas.maps import CollectionMap, Placed, PlaceRequest
from service.serving.embedder import EmbedOptions
from service.serving.projection_cache import placed, written


async def show_map(context: Context, _: None) -> JsonResponse:
    """Where the documents of this collection lie in two dimensions; ask again while it says "computing"."""
    state = context.state
    served = state.registry.collection(context.request.path_params["name"])[1]
    projection = await state.maps.of(served.shared)
    if projection is None:
        return JsonResponse(CollectionMap("computing"))
    sent = await state.worker.run_long(written, projection, context.request.query_params.get("colour"))
    return JsonResponse(sent)


async def place_query(context: Context, body: PlaceRequest) -> Placed:
    """Where a query lies on this collection's map."""
    state, call, _ = context
    served = state.registry.collection(context.request.path_params["name"])[1]
    projection = await state.maps.of(served.shared)
    if projection is None:
        raise ApiError(409, "The map of this collection is being computed. Ask again.", code="map_not_ready")
    options = EmbedOptions("query", truncate=True, field="query", name="The query")
    vectors, _ = await state.registry.models[served.model].embedder.embed([body.query], call, options)
    return placed(projection, vectors)


_MAP = "/v1/collections/{name}/map"
ENDPOINTS = (
    Endpoint("GET", _MAP, show_map, "Collections", None, CollectionMap, inference=False, query=("colour",)),
    Endpoint("POST", f"{_MAP}/place", place_query, "Collections", PlaceRequest, Placed),
)
