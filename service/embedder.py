"""From texts or token ids to vectors, off the event loop and without ever cutting a text in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from encoder_tools.prompts import QUERY_NAMES, PromptSet
from encoder_tools.protocols import FloatMatrix, TextEncoder
from service.errors import ApiError, bad_request
from service.worker import Worker

_SLICE_TOKENS = 8192


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

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, dim: int | None = None) -> FloatMatrix:
        """Unit vectors of token ids, float32 of shape (len(ids), dim)."""


class Embedded(NamedTuple):
    """Vectors (n, dim) and the number of tokens that the model read for them."""

    vectors: FloatMatrix
    tokens: int


class Embedder:
    """An encoder behind a :class:`Worker`."""

    def __init__(self, encoder: ServedEncoder, worker: Worker) -> None:
        self.encoder = encoder
        self._worker = worker

    async def embed(self, texts: Sequence[str], *, truncate: bool = False, dim: int | None = None) -> Embedded:
        """Vectors of ``texts``, with the model's default prompt.

        :raises ApiError: 400 if a text is empty, or too long and not to be cut.
        :raises InputError: if a text is not valid Unicode or ``dim`` is out of range.
        """
        return await self.embed_tokens(await self._tokens(texts, None, truncate), dim=dim)

    async def embed_query(self, query: str, *, truncate: bool = False) -> Embedded:
        """The vector of a search query, with the model's query prompt; raises as :meth:`embed` does."""
        prompt = PromptSet(self.encoder.prompts).for_names(QUERY_NAMES)
        return await self.embed_tokens(await self._tokens([query], prompt, truncate))

    async def embed_tokens(self, ids: Sequence[Sequence[int]], *, dim: int | None = None) -> Embedded:
        """Vectors of this model's own token ids.

        The inference thread gets them in slices, so that a long request lets others through, and stopping the server
        waits for one slice only.

        :raises InputError: if an id is outside the vocabulary, a list is empty or too long, or ``dim`` is wrong.
        """
        width = self.encoder.dim if dim is None else dim
        if not 1 <= width <= self.encoder.dim:
            raise bad_request(f"dimensions is {dim}, expected 1 to {self.encoder.dim}.", param="dimensions")
        vectors = np.empty((len(ids), width), dtype=np.float32)
        for rows in _slices(ids):
            part = [ids[row] for row in rows]
            vectors[rows] = await self._worker.infer(self.encoder.encode_tokens, part, dim=width)
        return Embedded(vectors, sum(map(len, ids)))

    async def _tokens(self, texts: Sequence[str], prompt: str | None, truncate: bool) -> list[list[int]]:
        for position, text in enumerate(texts):
            if not text:
                raise bad_request(f"Input {position} is an empty text, expected at least one character.", param="input")
        ids = await self._worker.run(self.encoder.tokenize, texts, prompt=prompt, truncate=truncate)
        self._check_lengths(ids)
        return ids

    def _check_lengths(self, ids: Sequence[Sequence[int]]) -> None:
        limit = self.encoder.max_length
        for position, row in enumerate(ids):
            if limit is not None and len(row) > limit:
                raise _too_long(position, len(row), limit)


def _slices(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Row numbers in groups of about ``_SLICE_TOKENS`` tokens, longest rows first so that padding stays small."""
    group: list[int] = []
    tokens = 0
    for row in sorted(range(len(ids)), key=lambda row: -len(ids[row])):
        group.append(row)
        tokens += len(ids[row])
        if tokens >= _SLICE_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def _too_long(position: int, length: int, limit: int) -> ApiError:
    return bad_request(
        f"Input {position} has {length} tokens, but the model takes at most {limit}. "
        'Shorten it, or send "truncate": true to have it cut.',
        param="input",
        code="context_length_exceeded",
    )
