"""Vectors of tokens in 64 bytes each, and MaxSim over them.

A token's vector is projected onto 128 random directions and kept in four bits a number. Inner products survive that
well enough for ranking, in a twelfth of the bytes of float16 at width 384: figures with and without it are in
``benchmarks/results/token_vectors.json``.

Sources: Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over
BERT", SIGIR 2020 (MaxSim); Achlioptas, "Database-friendly random projections", 2003.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from encoder_tools.vectors import unit_rows

WIDTH = 128
"""Most numbers that are kept of a token; of narrower models each is."""
_LEVELS, _ZERO = 7, 8  # numbers from -7 to 7, stored as 1 to 15

TokenCodes = NDArray[np.uint8]
"""Of a text: (n_tokens, bytes), two numbers in each byte."""


def projected(vectors: FloatMatrix) -> FloatMatrix:
    """Unit vectors of tokens (n, hidden) as unit vectors (n, even number up to ``WIDTH``)."""
    width = vectors.shape[1]
    if width > WIDTH:
        vectors = vectors @ _signs(width)
    elif width % 2:
        vectors = np.pad(vectors, ((0, 0), (0, 1)))
    return unit_rows(np.ascontiguousarray(vectors, dtype=np.float32))


@lru_cache(maxsize=4)
def _signs(width: int) -> FloatMatrix:
    """Directions (width, ``WIDTH``) of +1 and -1: from a hash, so that they are the same on every machine and version,
    because codes that are on disk were made with them.
    """
    data = hashlib.shake_256(f"encoder-tools token projection {width}".encode()).digest(width * WIDTH // 8)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).reshape(width, WIDTH)
    return np.asarray(2.0 * bits - 1.0, dtype=np.float32)


def pack(vectors: FloatMatrix) -> TokenCodes:
    """Codes of the unit vectors of a text's tokens (n, hidden)."""
    short = projected(vectors)
    largest = np.maximum(np.abs(short).max(axis=1, keepdims=True, initial=0), np.float32(1e-9))
    numbers = (np.rint(short * (_LEVELS / largest)) + _ZERO).astype(np.uint8)
    return np.ascontiguousarray(numbers[:, ::2] << 4 | numbers[:, 1::2])


def unpack(codes: TokenCodes) -> FloatMatrix:
    """Unit vectors (n, numbers) that codes stand for, about."""
    numbers = np.empty((len(codes), 2 * codes.shape[1]), dtype=np.float32)
    numbers[:, ::2], numbers[:, 1::2] = codes >> 4, codes & 15
    numbers -= _ZERO
    numbers /= np.maximum(np.linalg.norm(numbers, axis=1, keepdims=True), 1)  # small whole numbers: float32 holds them
    return numbers


def maxsim(query: FloatMatrix, texts: Sequence[TokenCodes]) -> NDArray[np.float32]:
    """For each text the mean over the query's tokens of the cosine of its nearest token, in [-1, 1].

    :param query: as :func:`projected` gives it, (n_tokens, numbers).
    :param texts: the codes of each. A text of no tokens is as far as can be.
    """
    scores = np.full(len(texts), -1.0, dtype=np.float32)
    filled = [number for number, codes in enumerate(texts) if len(codes)]
    if not filled or not len(query):
        return scores
    cosines = query @ unpack(np.concatenate([texts[number] for number in filled])).T  # (n_tokens, tokens of all texts)
    starts = np.cumsum([0, *(len(texts[number]) for number in filled[:-1])])
    scores[filled] = np.maximum.reduceat(cosines, starts, axis=1).mean(axis=0)
    return scores
