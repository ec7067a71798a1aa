"""The embedder: texts or token ids to vectors, off the event loop, without silent truncation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from encoder_tools.errors import InputError
from encoder_tools.model.prompts import PromptSet
from encoder_tools.model.tokenizer import TokenText
from encoder_tools.protocols import FloatMatrix, TextEncoder
from service.batching import Engine
from service.errors import ApiError, bad_request, check_length, refused
from service.request_context import Call
from service.serving.threads import Worker

Side: TypeAlias = Literal["left", "right"]
_TINY_CHARACTERS = 512  # tokenized in a tenth of a millisecond
_SLICE_CHARACTERS = 16_384


class ServedEncoder(TextEncoder, Protocol):
    """What the service needs beyond :class:`TextEncoder`: tokens apart from vectors."""

    @property
    def name(self) -> str:
        """Name that the model goes by if it is given no other."""

    @property
    def max_length(self) -> int | None:
        """Longest input in tokens, or None."""

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompt texts by task name."""

    def tokenize(self, texts: Sequence[str], *, prompt: str | None = None, truncate: bool = True) -> list[list[int]]:
        """Token ids of each text, special tokens included; ``prompt=None`` means the model's default prompt."""

    def cut_tokens(self, ids: Sequence[int], side: Side | None = None) -> list[int]:
        """Token ids of :meth:`tokenize` cut to ``max_length``, special tokens kept; None for the model's own side."""

    def describe_tokens(self, text: str, *, prompt: str = "", special: bool = True) -> list[TokenText]:
        """The tokens of a text and where they stand in it."""

    def decode_tokens(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text that token ids stand for."""

    def check_tokens(self, ids: Sequence[Sequence[int]]) -> None:
        """Check token ids that come from outside; raises InputError."""

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, check: bool = True) -> FloatMatrix:
        """Unit vectors of token ids, float32 of shape (len(ids), dim); ids from ``tokenize`` need no ``check``."""

    def cut(self, vectors: FloatMatrix, dim: int) -> FloatMatrix:
        """The first ``dim`` columns, normalized again if the model normalizes."""


@dataclass(frozen=True)
class EmbedOptions:
    """How texts are to be embedded, and what they are called in errors.

    :ivar prompt_name: the prompt to put before each; None takes the model's default.
    :ivar truncate: cut what is too long, at the end of ``side`` (None: the model's own).
    :ivar dim: width of the vectors; None takes the model's.
    :ivar field: of the request, where the texts stand.
    :ivar name: of one text, with its position.
    """

    prompt_name: str | None = None
    truncate: bool = False
    side: Side | None = None
    dim: int | None = None
    field: str = "input"
    name: str = "Input {}"


class Embedded(NamedTuple):
    """Vectors (n, dim) and the number of tokens that the model read for them."""

    vectors: FloatMatrix
    tokens: int


class Embedder:
    """An encoder behind an :class:`Engine`. A refusal is an :class:`ApiError` that names the field of the request."""

    def __init__(self, encoder: ServedEncoder, engine: Engine, worker: Worker, *, max_tokens: int = 300_000) -> None:
        self.encoder, self.engine = encoder, engine
        self._worker, self._max_tokens = worker, max_tokens

    async def embed(self, texts: Sequence[str], call: Call, options: EmbedOptions) -> Embedded:
        """Vectors of ``texts``.

        :raises ApiError: 400 if a text is empty, or too long and not to be cut, or there is no such prompt or width;
            413 if there are too many tokens.
        :raises QueueFullError: if there is too much to do.
        """
        self._check_dim(options.dim)
        prompt = None if options.prompt_name is None else prompt_of(self.encoder, options.prompt_name)
        for position, text in enumerate(texts):
            if not text:
                name = options.name.format(position)
                raise bad_request(f"{name} is an empty text, expected at least one character.", param=options.field)
        self.engine.check_room(call.caller.flow)  # before anything is done for a request that will not be taken
        with refused(options.field), call.timed("tokenize"):
            ids = await self._tokenize(texts, prompt)
        return await self._compute(self._fitted(ids, call, options), call, options)

    async def embed_tokens(self, ids: Sequence[Sequence[int]], call: Call, options: EmbedOptions) -> Embedded:
        """Vectors of this model's own token ids, all of which are checked before any is computed.

        :raises ApiError: 400 if an id is outside the vocabulary, a list is empty or too long, or ``dim`` is wrong.
        """
        self._check_dim(options.dim)
        self._check_lengths(ids, options, "Send fewer ids; lists of ids are never cut.")
        with refused(options.field):
            await self._worker.run(self.encoder.check_tokens, ids)
        return await self._compute(ids, call, options)

    async def _tokenize(self, texts: Sequence[str], prompt: str | None) -> list[list[int]]:
        """Tiny requests here, short ones on a thread, long ones in slices on one of their own, so that none waits long.

        A thread costs two switches, which take longer than the pieces of a query.
        """
        characters = sum(map(len, texts))
        if characters <= _TINY_CHARACTERS:
            return self.encoder.tokenize(texts, prompt=prompt, truncate=False)
        if characters <= _SLICE_CHARACTERS:
            return await self._worker.run(self.encoder.tokenize, texts, prompt=prompt, truncate=False)
        ids: list[list[int]] = []
        for part in _slices_of(texts):
            with _counted_from(len(ids)):
                ids += await self._worker.run_long(self.encoder.tokenize, part, prompt=prompt, truncate=False)
        return ids

    def _fitted(self, ids: list[list[int]], call: Call, options: EmbedOptions) -> list[list[int]]:
        """Lists that the model takes; what was cut is counted, never silent."""
        limit = self.encoder.max_length
        if limit is None or all(len(row) <= limit for row in ids):
            return ids
        if not options.truncate:
            self._check_lengths(ids, options, 'Shorten it, or send "truncate": true to have it cut.')
        call.truncated += sum(len(row) > limit for row in ids)
        return [row if len(row) <= limit else self.encoder.cut_tokens(row, options.side) for row in ids]

    async def _compute(self, ids: Sequence[Sequence[int]], call: Call, options: EmbedOptions) -> Embedded:
        vectors, tokens = await computed(self.engine, ids, call, self._max_tokens, options.field)
        if options.dim is not None:
            vectors = self.encoder.cut(vectors, options.dim)
        # nearly always the first column, which costs a tenth of all of them, says that no vector is zero
        if not vectors[:, 0].all() and (nowhere := ~vectors.any(axis=1)).any():
            raise bad_request(
                f"{options.name.format(int(nowhere.argmax()))} gives a zero vector, which has no direction: it holds "
                "only padding or what this model's tokenizer drops. Send other text.",
                param=options.field,
            )
        return Embedded(vectors, tokens)

    def _check_dim(self, dim: int | None) -> None:
        if dim is not None and not 1 <= dim <= self.encoder.dim:
            raise bad_request(f"dimensions is {dim}, expected 1 to {self.encoder.dim}.", param="dimensions")

    def _check_lengths(self, ids: Sequence[Sequence[int]], options: EmbedOptions, advice: str) -> None:
        limit = self.encoder.max_length
        for position, row in enumerate(ids):
            if limit is not None and len(row) > limit:
                name = options.name.format(position)
                message = f"{name} has {len(row)} tokens, but the model takes at most {limit}. {advice}"
                raise bad_request(message, param=options.field, code="context_length_exceeded")


def prompt_of(encoder: ServedEncoder, name: str | None) -> str:
    """The text of a prompt; of the model's default prompt if none is named.

    :raises ApiError: 404 if there is no such prompt.
    """
    try:
        return PromptSet(encoder.prompts).resolve(name, None)
    except InputError as error:
        raise ApiError(404, str(error), param="prompt_name", code="no_such_prompt") from None


async def computed(
    engine: Engine, ids: Sequence[Sequence[int]], call: Call, max_tokens: int, field: str | None = None
) -> Embedded:
    """What a model makes of token lists, computed for a call and counted on it.

    :raises ApiError: 413 if there are too many tokens.
    :raises QueueFullError: if there is too much to do.
    """
    tokens = sum(map(len, ids))
    check_length(tokens, max_tokens, "tokens", field)
    call.tokens += tokens
    vectors, timing = await engine.compute(ids, call.caller.flow, deadline=call.caller.deadline)
    call.spent("queue", timing.queue)
    call.spent("inference", timing.inference)
    return Embedded(vectors, tokens)


def _slices_of(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Neighbors that together have about ``_SLICE_CHARACTERS`` characters."""
    start = size = 0
    for position, text in enumerate(texts):
        if position > start and size + len(text) > _SLICE_CHARACTERS:
            yield texts[start:position]
            start, size = position, 0
        size += len(text)
    yield texts[start:]


@contextmanager
def _counted_from(first: int) -> Iterator[None]:
    """Name a text by its place in the whole request, not in its slice."""
    try:
        yield
    except InputError as error:
        message = re.sub(r"^Text (\d+)", lambda match: f"Text {int(match[1]) + first}", str(error))
        raise InputError(message) from None
