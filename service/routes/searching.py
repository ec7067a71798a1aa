"""``POST /search`` and ``POST /v1/collections/{name}/search``."""

from __future__ import annotations

from functools import partial

import msgspec

from index import Hit
from service.errors import bad_request, check_length
from service.http.endpoints import Context, Endpoint
from service.routes.inputs import check_count
from service.schemas.collections import Neighbor, SearchHit, SearchPart, SearchPlan, SearchRequest, SearchResponse
from service.schemas.common import Usage
from service.serving.embedder import EmbedOptions
from service.serving.generations import with_its_model
from service.serving.registry import ServedCollection

_OPTIONS = (
    "mode",
    "where",
    "min_score",
    "offset",
    "fusion",
    "weights",
    "group_by",
    "diversity",
    "highlight",
    "neighbors",
    "rescore",
)
MAX_QUERIES, MOST_HITS = 256, 10_000


async def search(context: Context, body: SearchRequest) -> SearchResponse:
    """Search a collection by meaning, by words, or by both."""
    return await _search(context, body, body.collection)


async def search_named(context: Context, body: SearchRequest) -> SearchResponse:
    """Search this collection by meaning, by words, or by both."""
    return await _search(context, body, context.request.path_params["name"])


async def _search(context: Context, body: SearchRequest, name: str | None) -> SearchResponse:
    return await with_its_model(context.state, name, partial(_searched, context, body))


async def _searched(context: Context, body: SearchRequest, served: ServedCollection) -> SearchResponse:
    state, call, _ = context
    queries = _queries(body)
    vectors, tokens = None, 0
    with served.shared.used() as collection:
        if body.mode != "lexical":
            embed_options = EmbedOptions("query", state.truncates(body.truncate), field="query", name="Query {}")
            vectors, tokens = await state.registry.models[served.model].embedder.embed(queries, call, embed_options)
        options = {name: getattr(body, name) for name in _OPTIONS}
        options["weights"] = None if body.weights is None else msgspec.structs.asdict(body.weights)
        run = state.worker.runner(remote=served.remote, long=len(queries) > 1 or body.rescore is not None)
        with call.timed("search"):
            results = await run(collection.search_many, queries, body.k, vectors=vectors, **options)
    written = [[_hit(hit) for hit in hits] for hits in results]
    plan = results[0].plan if body.explain else None
    return SearchResponse(written[0], written, Usage(tokens, tokens), SearchPlan(*plan) if plan else None)


def _queries(body: SearchRequest) -> list[str]:
    if (body.query is None) == (body.queries is None):
        raise bad_request("A search takes query or queries, one of them.", param="query")
    queries = [body.query] if body.query is not None else body.queries or []
    check_count(queries, MAX_QUERIES, "queries")
    check_length(len(queries) * body.k, MOST_HITS, "hits of all queries", "k")
    return queries


def _hit(hit: Hit) -> SearchHit:
    parts = [SearchPart(*part) for part in hit.parts]
    before, after = ([Neighbor(*one) for one in chunks] for chunks in (hit.before, hit.after))
    return SearchHit(hit.id, hit.score, hit.text, hit.metadata, parts, list(hit.highlights), before, after)


ENDPOINTS = (
    Endpoint("POST", "/search", search, "Collections", SearchRequest, SearchResponse),
    Endpoint("POST", "/v1/collections/{name}/search", search_named, "Collections", SearchRequest, SearchResponse),
)
