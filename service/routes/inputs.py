"""Inputs, prompts and truncation as different clients send them, in one form."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Any

from service.errors import ApiError, bad_request
from service.http.endpoints import Context
from service.serving.embedder import Embedded, EmbedOptions, Side
from service.serving.registry import Resolved

_QUERY = ("query", "search_query", "retrieval.query", "retrieval_query")
_DOCUMENT = ("document", "passage", "search_document", "retrieval.passage", "retrieval_document")
_TASKS = ("classification", "clustering", "text-matching", "separation", "similarity", "semantic_similarity")
_IDS_REFUSED = (
    "input holds token ids. Many clients send ids of OpenAI's vocabulary, which mean other text to this model: "
    "langchain-openai does unless it is given check_embedding_ctx_length=False. Send text; or start the server with "
    "--token-ids native if the ids are this model's own, or --token-ids cl100k_base to have OpenAI's decoded."
)


def prompt_name_of(resolved: Resolved, *given: str | None) -> str | None:
    """The model's prompt that a request means by ``prompt_name``, ``input_type``, ``task`` or the model's alias.

    :raises ApiError: 409 if they ask for different prompts, 404 if the model does not have it.
    """
    names = {_prompt_for(resolved, name) for name in given if name}
    if resolved.prompt_name is not None:
        names.add(resolved.prompt_name)
    if len(names) > 1:
        message = f"The request asks for several prompts: {sorted(map(str, names))}. Ask for one."
        raise ApiError(409, message, param="prompt_name", code="several_prompts")
    return next(iter(names), None)


def _prompt_for(resolved: Resolved, name: str) -> str | None:
    prompts = resolved.model.encoder.prompts
    if name in prompts:
        return name
    lowered = name.lower()
    for known, prompt in ((_QUERY, "query"), (_DOCUMENT, "document")):
        if lowered in known:
            return prompt
    if lowered in _TASKS:
        return None  # a task that this model has no prompt for: its default
    message = f"This model has no prompt {name[:100]!r}; it has {sorted(prompts)}."
    raise ApiError(404, message, param="prompt_name", code="no_such_prompt")


def side_of(direction: str | None) -> Side | None:
    """The end that text-embeddings-inference's ``truncation_direction`` cuts off."""
    return None if direction is None else "left" if direction.lower() == "left" else "right"


def texts_of(value: str | Sequence[Any]) -> list[str] | None:
    """The texts, if ``value`` is a text or a list of texts."""
    if isinstance(value, str):
        return [value]
    texts = [item for item in value if isinstance(item, str)]
    return texts if len(texts) == len(value) else None


def token_lists_of(value: str | Sequence[Any], field: str) -> list[list[int]]:
    """Lists of token ids, if ``value`` is a list of ids or a list of such lists.

    :raises ApiError: 400 if it holds several kinds.
    """
    single = [item for item in value if isinstance(item, int)]
    if len(single) == len(value):
        return [single]
    several = [item for item in value if isinstance(item, list)]
    if len(several) == len(value):
        return several
    raise bad_request(
        f"{field} mixes texts, token ids or lists, expected one kind: a text, texts, token ids, or lists of token ids.",
        param=field,
    )


async def embed_input(
    resolved: Resolved, value: str | Sequence[Any], context: Context, options: EmbedOptions
) -> Embedded:
    """Vectors of whatever form of input OpenAI allows.

    :raises ApiError: 400 if it has several kinds, or token ids where none are taken; 413 if it has too many items.
    """
    state, call, _ = context
    embedder = resolved.model.embedder
    texts = texts_of(value)
    if texts is None:
        ids = token_lists_of(value, options.field)
        check_count(ids, state.limits.max_items, options.field)
        if state.native_ids:
            return await embedder.embed_tokens(ids, call, options)
        if state.decode_ids is None:
            raise bad_request(_IDS_REFUSED, param=options.field, code="token_ids_refused")
        texts = await state.worker.run_long(_decoded, state.decode_ids, ids, options.field)
    check_count(texts, state.limits.max_items, options.field)
    return await embedder.embed(texts, call, options)


def _decoded(decode: Callable[[list[int]], str], ids: list[list[int]], field: str) -> list[str]:
    texts = []
    for position, row in enumerate(ids):
        try:
            texts.append(decode(row))
        except (KeyError, OverflowError, ValueError):
            message = f"{field}[{position}] holds ids that are not of the vocabulary that this server decodes."
            raise bad_request(message, param=field) from None
    return texts


def check_count(items: Sized, max_items: int, field: str = "input") -> None:
    """Check that a list of inputs is not too long.

    :raises ApiError: 413.
    """
    if len(items) > max_items:
        message = f"{field} has {len(items)} items, expected at most {max_items}. Send them in several requests."
        raise ApiError(413, message, param=field, code="request_too_large")
