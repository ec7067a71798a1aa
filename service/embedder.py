"""From texts or token ids to vectors, off the event loop and without ever cutting a text in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.prompts import QUERY, PromptSet
from encoder_tools.protocols import FloatMatrix, TextEncoder
from service.errors import bad_request
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

    def check_tokens(self, ids: Sequence[Sequence[int]]) -> None:
        """Check token ids that come from outside; raises InputError."""

    def encode_tokens(self, ids: Sequence[Sequence[int]], *, dim: int | None = None, check: bool = True) -> FloatMatrix:
        """Unit vectors of token ids, float32 of shape (len(ids), dim); ids from ``tokenize`` need no ``check``."""


class Embedded(NamedTuple):
    """Vectors (n, dim) and the number of tokens that the model read for them."""

    vectors: FloatMatrix
    tokens: int


class Embedder:
    """An encoder behind a :class:`Worker`. A refusal is an :class:`ApiError` that names the field of the request."""

    def __init__(self, encoder: ServedEncoder, worker: Worker) -> None:
        self.encoder = encoder
        self._worker = worker

    async def embed(self, texts: Sequence[str], *, truncate: bool = False, dim: int | None = None) -> Embedded:
        """Vectors of ``texts``, with the model's default prompt.

        :raises ApiError: 400 if a text is empty, or too long and not to be cut, or ``dim`` is out of range.
        """
        self._check_dim(dim)
        names = [f"Input {position}" for position in range(len(texts))]
        return await self._embed_texts(texts, names, "input", None, truncate, dim)

    async def embed_query(self, query: str, *, truncate: bool = False) -> Embedded:
        """The vector of a search query, with the model's query prompt; raises as :meth:`embed` does."""
        prompt = PromptSet(self.encoder.prompts).resolve(None, None, role=QUERY)
        return await self._embed_texts([query], ["The query"], "query", prompt, truncate, None)

    async def embed_tokens(self, ids: Sequence[Sequence[int]], *, dim: int | None = None) -> Embedded:
        """Vectors of this model's own token ids, all of which are checked before any is computed.

        :raises ApiError: 400 if an id is outside the vocabulary, a list is empty or too long, or ``dim`` is wrong.
        """
        self._check_dim(dim)
        names = [f"Input {position}" for position in range(len(ids))]
        self._check_lengths(ids, names, "input", "Send fewer ids; lists of ids are never cut.")
        with _refused("input"):
            await self._worker.run(self.encoder.check_tokens, ids)
        return await self._compute(ids, names, "input", dim)

    async def _embed_texts(
        self,
        texts: Sequence[str],
        names: Sequence[str],
        field: str,
        prompt: str | None,
        truncate: bool,
        dim: int | None,
    ) -> Embedded:
        for name, text in zip(names, texts, strict=True):
            if not text:
                raise bad_request(f"{name} is an empty text, expected at least one character.", param=field)
        with _refused(field):
            ids = await self._worker.run(self.encoder.tokenize, texts, prompt=prompt, truncate=truncate)
        self._check_lengths(ids, names, field, 'Shorten it, or send "truncate": true to have it cut.')
        return await self._compute(ids, names, field, dim)

    async def _compute(
        self, ids: Sequence[Sequence[int]], names: Sequence[str], field: str, dim: int | None
    ) -> Embedded:
        """The inference thread gets slices, so that a long request lets others through, and stopping waits for one."""
        width = self.encoder.dim if dim is None else dim
        vectors = np.empty((len(ids), width), dtype=np.float32)
        for rows in _slices(ids):
            part = [ids[row] for row in rows]
            vectors[rows] = await self._worker.infer(self.encoder.encode_tokens, part, dim=width, check=False)
        nowhere = ~vectors.any(axis=1)
        if nowhere.any():
            raise bad_request(
                f"{names[int(nowhere.argmax())]} gives a zero vector, which has no direction: it holds only padding or "
                "what this model's tokenizer drops. Send other text.",
                param=field,
            )
        return Embedded(vectors, sum(map(len, ids)))

    def _check_dim(self, dim: int | None) -> None:
        if dim is not None and not 1 <= dim <= self.encoder.dim:
            raise bad_request(f"dimensions is {dim}, expected 1 to {self.encoder.dim}.", param="dimensions")

    def _check_lengths(self, ids: Sequence[Sequence[int]], names: Sequence[str], field: str, advice: str) -> None:
        limit = self.encoder.max_length
        for name, row in zip(names, ids, strict=True):
            if limit is not None and len(row) > limit:
                message = f"{name} has {len(row)} tokens, but the model takes at most {limit}. {advice}"
                raise bad_request(message, param=field, code="context_length_exceeded")


@contextmanager
def _refused(field: str) -> Iterator[None]:
    """Say of an input that the encoder refused which field of the request it stood in."""
    try:
        yield
    except InputError as error:
        raise bad_request(str(error), param=field) from None


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
