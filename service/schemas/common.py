"""Parts that several bodies share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_HITS, MAX_OFFSET = 1000, 100_000
TokenId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
Texts: TypeAlias = Annotated[list[Text], msgspec.Meta(min_length=1)]
Dimensions: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Top: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_HITS)]


if TYPE_CHECKING:
    Vector: TypeAlias = NDArray[Any]
    Matrix: TypeAlias = NDArray[Any]
else:  # what is written, for the OpenAPI document
    Vector: TypeAlias = list[float]
    Matrix: TypeAlias = list[list[float]]


@dataclass(frozen=True)
class Usage:
    """Tokens that the model read, special tokens included."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True)
class Status:
    """``GET /health``, ``GET /ready``: "ok", "ready", "draining" or "broken"."""

    status: str


@dataclass(frozen=True)
class Ready(Status):
    """``GET /ready`` where there are collections that cannot be served: their names, and why."""

    unavailable: dict[str, str]
