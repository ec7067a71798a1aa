"""What the routes' bodies have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

MAX_HITS, MAX_OFFSET = 1000, 100_000
TokenId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
Texts: TypeAlias = Annotated[list[Text], msgspec.Meta(min_length=1)]
Dimensions: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Top: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_HITS)]


@dataclass(frozen=True)
class Usage:
    """Tokens that the model read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True)
class Status:
    """``GET /health``, ``GET /ready``: "ok", "ready" or "draining"."""

    status: str
