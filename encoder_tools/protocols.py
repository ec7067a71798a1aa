"""The protocol that heads and collections require of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatMatrix: TypeAlias = NDArray[np.float32]
"""Vectors of shape (n_texts, dim), float32, C-contiguous."""


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into unit vectors.

    ``encode_query`` and ``encode_document`` apply the model's prompt for that role; ``encode`` applies its default
    prompt, if it has one. Every method returns float32 of shape (n_texts, dim) in the order of ``texts``.
    """

    @property
    def dim(self) -> int:
        """Width of the vectors."""

    @property
    def fingerprint(self) -> str:
        """Hash over weights, tokenizer, modules and prompts; equal fingerprints mean interchangeable vectors."""

    def encode_query(self, texts: Sequence[str]) -> FloatMatrix:
        """Encode search queries."""

    def encode_document(self, texts: Sequence[str]) -> FloatMatrix:
        """Encode the texts that are searched."""

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Encode texts for symmetric use (similarity, classification)."""


@runtime_checkable
class TokenEncoder(Protocol):
    """An encoder that also gives a vector for each token of a text."""

    @property
    def fingerprint(self) -> str:
        """As of :class:`TextEncoder`."""

    def token_vectors(self, texts: Sequence[str], *, role: Literal["query", "document"]) -> list[FloatMatrix]:
        """Unit vectors of the tokens of each text, float32 (n_tokens, hidden)."""


@runtime_checkable
class Tokenized(Protocol):
    """An encoder whose tokens can be counted."""

    @property
    def tokenizer_file(self) -> Path:
        """Its tokenizer, in the format of Hugging Face tokenizers."""

    @property
    def document_room(self) -> int | None:
        """Tokens of a document that are read, without those of the prompt and special ones; None if there is no
        limit.
        """
