"""Reranking, in the shapes of Cohere and text-embeddings-inference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import bad_request
from service.http.endpoints import Context, Endpoint
from service.routes.inputs import check_count, side_of
from service.schemas.cohere import RerankRequest, RerankResponse, RerankResult
from service.schemas.tei import AnyRerankRequest, Rank
from service.serving.embedder import EmbedOptions, Side, computed
from service.serving.registry import ServedReranker
from service.serving.state import ServiceState


class Scored(NamedTuple):
    """Scores (n,) of the texts for the query, as the model gives them and in [0, 1], and the tokens read for them."""

    raw: NDArray[np.float32]
    shares: NDArray[np.float32]
    tokens: int


async def rerank(context: Context, body: RerankRequest) -> RerankResponse:
    """Order documents by their relevance to a query."""
    state, call, _ = context
    texts = [document if isinstance(document, str) else document.text for document in body.documents]
    check_count(texts, state.limits.max_items, "documents")
    truncate = state.truncates(True if body.max_tokens_per_doc is not None else body.truncate)
    scored = await _score(context, body.model, body.query, texts, truncate=truncate, field="documents")
    best = _best_first(scored.raw)[: body.top_n]
    results = [
        RerankResult(index, float(scored.shares[index]), {"text": texts[index]} if body.return_documents else None)
        for index in best
    ]
    usage = {"prompt_tokens": scored.tokens, "total_tokens": scored.tokens}
    meta = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": scored.tokens},
    }
    return RerankResponse(call.id, body.model or _default(state), results, usage, meta)


async def rerank_any(context: Context, body: AnyRerankRequest) -> list[dict[str, Any]] | RerankResponse:
    """Order texts by their relevance to a query, in the shape of text-embeddings-inference or that of Cohere."""
    if (body.texts is None) == (body.documents is None):
        raise bad_request("Reranking takes texts or documents, one of them.", param="texts")
    if body.documents is not None:
        told = RerankRequest(body.query, body.documents, body.model, body.top_n, body.return_documents, body.truncate)
        answer = await rerank(context, told)
        plain = [replace(result, document=_text_of(result.document)) for result in answer.results]
        return replace(answer, results=plain)  # infinity, whose route this is, gives the text itself
    return await _rerank_texts(context, body, body.texts or [])


def _text_of(document: dict[str, str] | str | None) -> str | None:
    return document["text"] if isinstance(document, dict) else document


async def _rerank_texts(context: Context, body: AnyRerankRequest, texts: list[str]) -> list[dict[str, Any]]:
    state = context.state
    check_count(texts, state.limits.max_items, "texts")
    truncate, side = state.truncates(body.truncate), side_of(body.truncation_direction)
    scored = await _score(context, None, body.query, texts, truncate=truncate, side=side, field="texts")
    scores = scored.raw if body.raw_scores else scored.shares
    ranks: list[dict[str, Any]] = []
    for index in _best_first(scored.raw):
        rank = {"index": index, "score": float(scores[index])}
        ranks.append(rank | {"text": texts[index]} if body.return_text else rank)
    return ranks


async def _score(
    context: Context,
    name: str | None,
    query: str,
    texts: list[str],
    *,
    truncate: bool,
    field: str,
    side: Side | None = None,
) -> Scored:
    """By the cross-encoder of that name; without one by the embedder's cosines."""
    state, call, _ = context
    reranker = state.registry.reranker(name)
    if reranker is not None:
        return await _score_pairs(reranker, query, texts, context, truncate=truncate, field=field)
    model = state.registry.resolve(name).model if name else state.registry.default_model()
    query_vectors = await model.embedder.embed(
        [query], call, EmbedOptions("query", truncate, side, field="query", name="The query")
    )
    told = await model.embedder.embed(
        texts, call, EmbedOptions("document", truncate, side, field=field, name="Text {}")
    )
    cosines = np.clip(told.vectors @ query_vectors.vectors[0], -1, 1)
    return Scored(cosines, (1 + cosines) / 2, query_vectors.tokens + told.tokens)


async def _score_pairs(
    reranker: ServedReranker, query: str, texts: list[str], context: Context, *, truncate: bool, field: str
) -> Scored:
    """A cross-encoder reads a query and a text as one; the two together may be too long."""
    state, call, _ = context
    reranker.engine.check_room(call.caller.flow)
    with call.timed("tokenize"):
        pairs = await state.worker.run_long(reranker.encoder.pairs, query, texts)
    if any(pairs.cut) and not truncate:
        message = (
            f"The query and text {pairs.cut.index(True)} together have more tokens than {reranker.name!r} reads. "
            'Shorten them, or send "truncate": true to have them cut.'
        )
        raise bad_request(message, param=field, code="context_length_exceeded")
    call.truncated += sum(pairs.cut)
    scores, tokens = await computed(reranker.engine, pairs.ids, call, state.limits.max_tokens)
    raw = scores[:, 0]
    return Scored(raw, (1 / (1 + np.exp(-raw.astype(np.float64)))).astype(np.float32), tokens)


def _default(state: ServiceState) -> str:
    reranker = state.registry.reranker(None)
    return state.registry.default_model().name if reranker is None else reranker.name


def _best_first(scores: NDArray[np.float32]) -> list[int]:
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order


ENDPOINTS = (
    Endpoint("POST", "/v1/rerank", rerank, "Cohere", RerankRequest, RerankResponse),
    Endpoint("POST", "/v2/rerank", rerank, "Cohere", RerankRequest, RerankResponse),
    Endpoint("POST", "/rerank", rerank_any, "TEI", AnyRerankRequest, list[Rank] | RerankResponse),
)
