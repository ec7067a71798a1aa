"""Rerank: texts in the order of their nearness to a query, as Cohere and text-embeddings-inference have it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.calls import Call
from service.embedder import Side, Wanted
from service.endpoints import Context, Endpoint
from service.errors import bad_request
from service.inputs import check_count, side_of
from service.registry import ServedModel
from service.schemas.cohere import RerankRequest, RerankResponse, RerankResult
from service.schemas.tei import AnyRerankRequest, Rank


class Scored(NamedTuple):
    """Cosines (n,) of the texts with the query, and the tokens that were read for them."""

    cosines: NDArray[np.float32]
    tokens: int


async def rerank(context: Context, body: RerankRequest) -> RerankResponse:
    """Order documents by their relevance to a query."""
    state, call, _ = context
    model = state.registry.resolve(body.model).model if body.model else state.registry.default_model()
    texts = [document if isinstance(document, str) else document.text for document in body.documents]
    check_count(texts, state.limits.max_items, "documents")
    scored = await _score(model, body.query, texts, call, truncate=True, field="documents")
    best = _best_first(scored.cosines)[: body.top_n]
    results = [
        RerankResult(index, _share(scored.cosines[index]), {"text": texts[index]} if body.return_documents else None)
        for index in best
    ]
    usage = {"prompt_tokens": scored.tokens, "total_tokens": scored.tokens}
    meta = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": scored.tokens},
    }
    return RerankResponse(call.id, body.model or model.name, results, usage, meta)


async def rerank_any(context: Context, body: AnyRerankRequest) -> list[dict[str, Any]] | RerankResponse:
    """Order texts by their relevance to a query, in the shape of text-embeddings-inference or that of Cohere."""
    if (body.texts is None) == (body.documents is None):
        raise bad_request("Reranking takes texts or documents, one of them.", param="texts")
    if body.documents is not None:
        told = RerankRequest(body.query, body.documents, body.model, body.top_n, body.return_documents)
        answer = await rerank(context, told)
        plain = [replace(found, document=_text_of(found.document)) for found in answer.results]
        return replace(answer, results=plain)  # infinity, whose route this is, gives the text itself
    return await _rerank_texts(context, body, body.texts or [])


def _text_of(document: dict[str, str] | str | None) -> str | None:
    return document["text"] if isinstance(document, dict) else document


async def _rerank_texts(context: Context, body: AnyRerankRequest, texts: list[str]) -> list[dict[str, Any]]:
    state, call, _ = context
    check_count(texts, state.limits.max_items, "texts")
    truncate, side = state.truncates(body.truncate), side_of(body.truncation_direction)
    model = state.registry.default_model()
    cosines, _ = await _score(model, body.query, texts, call, truncate=truncate, side=side, field="texts")
    ranks = []
    for index in _best_first(cosines):
        rank = {"index": index, "score": float(cosines[index]) if body.raw_scores else _share(cosines[index])}
        ranks.append(rank | {"text": texts[index]} if body.return_text else rank)
    return ranks


async def _score(
    model: ServedModel,
    query: str,
    texts: list[str],
    call: Call,
    *,
    truncate: bool,
    field: str,
    side: Side | None = None,
) -> Scored:
    asked = await model.embedder.embed([query], call, Wanted("query", truncate, side, field="query", name="The query"))
    told = await model.embedder.embed(texts, call, Wanted("document", truncate, side, field=field, name="Text {}"))
    return Scored(np.clip(told.vectors @ asked.vectors[0], -1, 1), asked.tokens + told.tokens)


def _best_first(scores: NDArray[np.float32]) -> list[int]:
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order


def _share(cosine: np.float32) -> float:
    return (1 + float(cosine)) / 2


ENDPOINTS = (
    Endpoint("POST", "/v1/rerank", rerank, "Cohere", RerankRequest, RerankResponse),
    Endpoint("POST", "/v2/rerank", rerank, "Cohere", RerankRequest, RerankResponse),
    Endpoint("POST", "/rerank", rerank_any, "TEI", AnyRerankRequest, list[Rank] | RerankResponse),
)
