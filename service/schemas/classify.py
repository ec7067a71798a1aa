"""Bodies of classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from service.schemas.common import Text, Top, Usage

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ClassifyRequest(msgspec.Struct, frozen=True):
    """``POST /v1/classify``, ``POST /classify``.

    :ivar input: a text or several; an empty one among several has no labels, and the others are classified.
    :ivar heads: which heads; None takes all that this server has. Those of one model share one pass of it.
    :ivar top: how many labels of each.
    :ivar min_probability: a text whose best label is less probable is marked as abstained from; None leaves it to the
        threshold that each head was fitted with.
    :ivar chunk: predict texts that are longer than the model reads in pieces, whose scores are averaged.
    """

    input: Text | Annotated[list[str], msgspec.Meta(min_length=1)]
    heads: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    top: Top = 5
    min_probability: Share | None = None
    chunk: bool = False
    truncate: bool | None = None


@dataclass(frozen=True)
class LabelScore:
    """A label and its probability in [0, 1]."""

    label: str | int | float
    probability: float


@dataclass(frozen=True)
class HeadResult:
    """What one head says of a text, best first.

    :ivar abstained: whether the best label is not probable enough to be given as an answer: by the request's
        min_probability, else by the threshold that the head was fitted with.
    :ivar out_of_scope: whether the text is like none of those that the head was fitted on; None if it cannot tell.
    :ivar chosen: of a head that gives any number of labels those above their thresholds; else None.
    :ivar value: of a regression, which has no labels; else None.
    :ivar pieces: number of chunks that the text was predicted in.
    """

    labels: list[LabelScore]
    abstained: bool
    out_of_scope: bool | None
    chosen: list[str | int | float] | None = None
    value: float | None = None
    pieces: int = 1


@dataclass(frozen=True)
class ClassifiedText:
    """What the heads say of input number ``index``; ``labels`` are those of the first head."""

    index: int
    labels: list[LabelScore]
    heads: dict[str, HeadResult]


@dataclass(frozen=True)
class ClassifyResponse:
    """One entry per text, in the order of the inputs."""

    data: list[ClassifiedText]
    usage: Usage
