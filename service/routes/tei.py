"""The native routes of text-embeddings-inference, over the first model and the only head."""

from __future__ import annotations

from typing import Any

import numpy as np

import encoder_tools
from encoder_tools.protocols import FloatMatrix
from service.errors import bad_request, check_length
from service.http.endpoints import Context, Endpoint
from service.http.protocol import MAX_CONNECTIONS
from service.routes.inputs import check_count, embed_input, prompt_name_of, side_of
from service.schemas.tei import (
    DecodeRequest,
    EmbedRequest,
    Info,
    Prediction,
    PredictRequest,
    SimilarityParameters,
    SimilarityRequest,
    Token,
    TokenizeRequest,
)
from service.serving.embedder import EmbedOptions, ServedEncoder, prompt_of
from service.serving.registry import Resolved

_MOST_PREDICTIONS = 1_000_000  # all labels of all texts are in the answer; /v1/classify gives the best few


async def embed(context: Context, body: EmbedRequest) -> FloatMatrix:
    """Embed texts or token ids, in the shape of text-embeddings-inference."""
    state = context.state
    resolved = Resolved(state.registry.default_model(), None)
    options = EmbedOptions(
        prompt_name_of(resolved, body.prompt_name),
        state.truncates(body.truncate),
        side_of(body.truncation_direction),
        body.dimensions,
        "inputs",
    )
    embedded = await embed_input(resolved, body.inputs, context, options)
    return embedded.vectors


async def similarity(context: Context, body: SimilarityRequest) -> list[float]:
    """Cosines of one text with others."""
    state, call, _ = context
    check_count(body.inputs.sentences, state.limits.max_items, "inputs")
    resolved = Resolved(state.registry.default_model(), None)
    parameters = body.parameters or SimilarityParameters()
    prompt, truncate = prompt_name_of(resolved, parameters.prompt_name), state.truncates(parameters.truncate)
    options = EmbedOptions(prompt, truncate, side_of(parameters.truncation_direction), field="inputs", name="Text {}")
    texts = [body.inputs.source_sentence, *body.inputs.sentences]
    vectors = (await resolved.model.embedder.embed(texts, call, options)).vectors
    cosines: list[float] = np.clip(vectors[1:] @ vectors[0], -1, 1).tolist()
    return cosines


async def predict(context: Context, body: PredictRequest) -> list[Any]:
    """The labels of texts with their probabilities, all of them, best first."""
    state, call, _ = context
    _, served = state.registry.head(None)
    texts = (
        [body.inputs]
        if isinstance(body.inputs, str)
        else [item if isinstance(item, str) else item[0] for item in body.inputs]
    )
    check_count(texts, state.limits.max_items, "inputs")
    check_length(len(texts) * len(served.head.labels), _MOST_PREDICTIONS, "labels of all texts", "inputs")
    side = side_of(body.truncation_direction)
    options = EmbedOptions(None, state.truncates(body.truncate), side, field="inputs")
    vectors = (await state.registry.models[served.model].embedder.embed(texts, call, options)).vectors
    raw = body.raw_scores or served.head.link == "identity"  # a regression has no probabilities
    score = served.head.decision_function if raw else served.head.predict_proba
    scores = await state.worker.run(score, vectors)
    rows = [
        [Prediction(str(served.head.labels[column]), float(row[column])) for column in np.argsort(-row, kind="stable")]
        for row in scores
    ]
    return rows[0] if isinstance(body.inputs, str) else rows


async def tokenize(context: Context, body: TokenizeRequest) -> list[list[Token]]:
    """The tokens of texts."""
    state, _, _ = context
    encoder = state.registry.default_model().encoder
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    check_count(texts, state.limits.max_items, "inputs")
    check_length(sum(map(len, texts)), state.limits.max_tokens, "characters", "inputs")
    prompt = prompt_of(encoder, body.prompt_name)
    return await state.worker.run_long(_described, encoder, texts, prompt, body.add_special_tokens)


def _described(encoder: ServedEncoder, texts: list[str], prompt: str, special: bool) -> list[list[Token]]:
    return [[Token(*token) for token in encoder.describe_tokens(t, prompt=prompt, special=special)] for t in texts]


async def decode(context: Context, body: DecodeRequest) -> list[str]:
    """The texts of token ids."""
    encoder = context.state.registry.default_model().encoder
    flat = [item for item in body.ids if isinstance(item, int)]
    nested = [item for item in body.ids if isinstance(item, list)]
    if flat and nested:
        raise bad_request("ids mixes token ids and lists, expected one kind.", param="ids")
    rows = nested or [flat]
    check_length(sum(map(len, rows)), context.state.limits.max_tokens, "ids", "ids")
    skip = body.skip_special_tokens
    return await context.state.worker.run_long(lambda: [encoder.decode_tokens(ids, skip_special=skip) for ids in rows])


async def info(context: Context, _: None) -> Info:
    """What is served, and within which limits."""
    state = context.state
    model = state.registry.default_model()
    encoder, engine = model.encoder, model.embedder.engine
    return Info(
        model_id=model.name,
        model_sha=encoder.fingerprint,
        model_dtype=str(getattr(encoder, "variant", "fp32")),
        model_type={"embedding": {"pooling": str(getattr(encoder, "pooling", "mean"))}},
        max_concurrent_requests=MAX_CONNECTIONS,
        max_input_length=encoder.max_length,
        max_batch_tokens=engine.costs.budget,
        max_batch_requests=None,
        max_client_batch_size=state.limits.max_items,
        auto_truncate=state.auto_truncate,
        tokenization_workers=3,
        version=encoder_tools.__version__,
        sha=None,
        docker_label=None,
        provider=str(getattr(encoder, "provider", "cpu")),
        dim=encoder.dim,
        fingerprint=encoder.fingerprint,
    )


ENDPOINTS = (
    Endpoint("POST", "/embed", embed, "TEI", EmbedRequest, list[list[float]]),
    Endpoint("POST", "/", embed, "TEI", EmbedRequest, list[list[float]]),  # where huggingface_hub's client asks
    Endpoint("POST", "/similarity", similarity, "TEI", SimilarityRequest, list[float]),
    Endpoint("POST", "/predict", predict, "TEI", PredictRequest, list[Prediction | list[Prediction]]),
    Endpoint("POST", "/tokenize", tokenize, "TEI", TokenizeRequest, list[list[Token]], inference=False),
    Endpoint("POST", "/decode", decode, "TEI", DecodeRequest, list[str], missing=False, inference=False),
    Endpoint("GET", "/info", info, "TEI", response=Info, missing=False, inference=False),
)
