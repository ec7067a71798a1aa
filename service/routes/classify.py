"""``POST /v1/classify``: predictions of heads; those of one model share one pass of it."""

from __future__ import annotations

from collections.abc import Sequence

from heads import Prediction, predict_all
from heads.serving.chunking import pieces_of
from service.http.endpoints import Context, Endpoint
from service.request_context import Call
from service.routes.inputs import check_count
from service.schemas.classify import ClassifiedText, ClassifyRequest, ClassifyResponse, HeadResult, LabelScore
from service.schemas.common import Usage
from service.serving.embedder import EmbedOptions
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
    predictions = await _all_heads(state, call, heads, [texts[index] for index in filled], body) if filled else {}
    results = {name: [_NOTHING] * len(texts) for name in heads}
    for name, predicted in predictions.items():
        for index, result in zip(filled, predicted, strict=True):
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
        options, owners, encoded_texts = EmbedOptions(truncate=state.truncates(body.truncate)), None, texts
        if body.chunk:
            pieces = await state.worker.run(pieces_of, served_model.encoder, texts)
            check_count(pieces.texts, state.limits.max_items)
            encoded_texts, owners = pieces.texts, pieces.owners
        vectors = (await served_model.embedder.embed(encoded_texts, call, options)).vectors
        heads_of_model = {name: served.head for name, served in heads.items() if served.model == model}
        for name, predicted in (await state.worker.run(predict_all, heads_of_model, vectors, body.top, owners)).items():
            results[name] = [_result(prediction, body) for prediction in predicted]
    return results


def _result(prediction: Prediction, body: ClassifyRequest) -> HeadResult:
    abstained = prediction.abstained
    if body.min_probability is not None and prediction.labels:
        abstained = prediction.labels[0].probability < body.min_probability
    labels = [LabelScore(*entry) for entry in prediction.labels]
    chosen = None if prediction.chosen is None else list(prediction.chosen)
    return HeadResult(labels, abstained, prediction.out_of_scope, chosen, prediction.value, prediction.pieces)


ENDPOINTS = (
    Endpoint("POST", "/v1/classify", classify, "Classification", ClassifyRequest, ClassifyResponse),
    Endpoint("POST", "/classify", classify, "Classification", ClassifyRequest, ClassifyResponse),
)
