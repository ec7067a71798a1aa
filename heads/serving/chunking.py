"""Texts longer than a model reads: cut into chunks, each predicted, and their scores averaged."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix, TextEncoder, Tokenized
from encoder_tools.vectors import unit_rows

_KEPT = 4


class Pieces(NamedTuple):
    """Parts of texts, in their order.

    :ivar owners: of each piece the position of its text, ascending, int64 of shape (n_pieces,); every text has one.
    """

    texts: list[str]
    owners: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many pieces each text has."""
        return np.bincount(self.owners)


def pieces_of(encoder: TextEncoder, texts: Sequence[str]) -> Pieces:
    """The texts in pieces that the model reads whole, as even as can be; short texts, and all if there is no limit, as
    they are.

    Cut between tokens, at a space where there is one.
    """
    room = encoder.document_room if isinstance(encoder, Tokenized) else None
    if room is None or room < 1 or not isinstance(encoder, Tokenized):
        return Pieces(list(texts), np.arange(len(texts)))
    tokenizer = _tokenizer(encoder.tokenizer_file)
    pieces: list[str] = []
    owners: list[int] = []
    for number, text in enumerate(texts):
        chunks = [text]
        if len(text) > room:  # fewer letters are fewer tokens
            offsets = tokenizer.encode(text, add_special_tokens=False).offsets
            chunks = _cut(text, [start for start, stop in offsets if stop > start], room, len(offsets))
        pieces += chunks
        owners += [number] * len(chunks)
    return Pieces(pieces, np.array(owners, dtype=np.int64))


def together(values: NDArray[Any], owners: NDArray[np.int64]) -> NDArray[Any]:
    """Mean of the rows (n_pieces, ...) of each text, of the values' type."""
    counts = np.bincount(owners)
    if (counts == 1).all():
        return values
    total = np.zeros((len(counts), *values.shape[1:]), dtype=np.float64)
    np.add.at(total, owners, values)
    mean: NDArray[Any] = (total / counts[:, None]).astype(values.dtype)
    return mean


def together_as_vectors(vectors: FloatMatrix, owners: NDArray[np.int64]) -> FloatMatrix:
    """The direction of the mean of each text's unit vectors."""
    pooled = together(vectors, owners)
    return vectors if pooled is vectors else unit_rows(pooled)


def _cut(text: str, starts: list[int], room: int, tokens: int) -> list[str]:
    if tokens <= room:
        return [text]
    # A piece alone may have a token more than it had within the text, hence one less than there is room for.
    n = -(-tokens // max(1, room - 1))
    bounds = [0]
    for number in range(1, n):
        at = starts[min(len(starts) - 1, number * len(starts) // n)]
        space = text.rfind(" ", bounds[-1] + 1, at + 1)
        bounds.append(space if space > at - (at - bounds[-1]) // 8 else at)
    pieces = [text[a:b].strip() for a, b in zip(bounds, [*bounds[1:], len(text)], strict=True)]
    return [piece for piece in pieces if piece] or [text]


@lru_cache(maxsize=_KEPT)
def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
