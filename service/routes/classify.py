"""``POST /v1/classify``: what heads say of texts; heads of one model share one pass of it."""

from __future__ import annotations

from collections.abc import Sequence

from heads import Judgement, judge_all
from heads.serving.chunking import pieces_of
from service.http.endpoints import Context, Endpoint
from service.request_context import Call
from service.routes.inputs import check_count
from service.schemas.classify import ClassifiedText, ClassifyRequest, ClassifyResponse, HeadResult, LabelScore
from service.schemas.common import Usage
from service.serving.embedder import Wanted
from service.serving.registry import Registry, ServedHead
from service.serving.state import ServiceState

_NOTHING = HeadResult([], True, None, None, None, 0)
"""Of an empty text."""


async def classify(context: Context, body: ClassifyRequest) -> ClassifyResponse:
    """Classify texts by one or several heads."""
    state, call, _ = context
    heads = _chosen(state.registry, body.heads)
    texts = [body.input] if isinstance(body.input, str) else body.input
    check_count(texts, state.limits.max_items)
    filled = [index for index, text in enumerate(texts) if text]
    found = await _all_heads(state, call, heads, [texts[index] for index in filled], body) if filled else {}
    results = {name: [_NOTHING] * len(texts) for name in heads}
    for name, judged in found.items():
        for index, result in zip(filled, judged, strict=True):
            results[name][index] = result
    first = next(iter(heads))
    data = [
        ClassifiedText(index, results[first][index].labels, {name: results[name][index] for name in heads})
        for index in range(len(texts))
    ]
    return ClassifyResponse(data, Usage(call.tokens, call.tokens))


def _chosen(registry: Registry, names: list[str] | None) -> dict[str, ServedHead]:
    if names is None and registry.heads:
        return dict(registry.heads)
    if names is None:
        return dict([registry.head(None)])
    return dict(registry.head(name) for name in names)


async def _all_heads(
    state: ServiceState, call: Call, heads: dict[str, ServedHead], texts: Sequence[str], body: ClassifyRequest
) -> dict[str, list[HeadResult]]:
    results = {}
    for model in dict.fromkeys(served.model for served in heads.values()):
        served_model = state.registry.models[model]
        wanted, owners, judged_texts = Wanted(truncate=state.truncates(body.truncate)), None, texts
        if body.chunk:
            pieces = await state.worker.run(pieces_of, served_model.encoder, texts)
            check_count(pieces.texts, state.limits.max_items)
            judged_texts, owners = pieces.texts, pieces.owners
        vectors = (await served_model.embedder.embed(judged_texts, call, wanted)).vectors
        asked = {name: served.head for name, served in heads.items() if served.model == model}
        for name, judged in (await state.worker.run(judge_all, asked, vectors, body.top, owners)).items():
            results[name] = [_result(judgement, body) for judgement in judged]
    return results


def _result(found: Judgement, body: ClassifyRequest) -> HeadResult:
    abstained = found.abstained
    if body.min_probability is not None and found.labels:
        abstained = found.labels[0].probability < body.min_probability
    labels = [LabelScore(*entry) for entry in found.labels]
    chosen = None if found.chosen is None else list(found.chosen)
    return HeadResult(labels, abstained, found.out_of_scope, chosen, found.value, found.pieces)


ENDPOINTS = (
    Endpoint("POST", "/v1/classify", classify, "Classification", ClassifyRequest, ClassifyResponse),
    Endpoint("POST", "/classify", classify, "Classification", ClassifyRequest, ClassifyResponse),
)
