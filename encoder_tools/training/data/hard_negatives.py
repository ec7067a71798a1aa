"""Hard negatives: documents near a query that do not answer it.

A candidate that is nearly as near to the query as its answer, or nearer, is likely an answer that nobody marked: it is
left out, and counted. A better model, if there is one, checks them a second time.

Source: Moreira et al., "NV-Retriever: Improving Text Embedding Models with Effective Hard-Negative Mining", 2024
(TopK-PercPos: negatives below 95 % of the positive's score).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError
from encoder_tools.protocols import TextEncoder
from encoder_tools.training.data.examples import Example, folded
from encoder_tools.vectors import unit_rows

_BLOCK = 256  # queries searched at a time
_SAMPLES = 5


class Dropped(NamedTuple):
    """A candidate that was left out, with cosines to the query of itself and of the answer."""

    query: str
    document: str
    candidate: str
    cosine: float
    of_the_document: float


@dataclass
class Mined:
    """What was found.

    :ivar examples: those given, with their negatives; without, where nothing was left.
    :ivar candidates: documents looked at.
    :ivar too_near: left out because the model finds them as near as the answer; ``by_the_guide``, the guide does.
    :ivar without: examples that got no negative.
    :ivar samples: some of what was left out.
    """

    examples: list[Example] = field(default_factory=list)
    candidates: int = 0
    too_near: int = 0
    by_the_guide: int = 0
    without: int = 0
    samples: list[Dropped] = field(default_factory=list)


def mine(
    encoder: TextEncoder,
    examples: Sequence[Example],
    *,
    per_query: int = 1,
    depth: int = 50,
    margin: float = 0.95,
    guide: TextEncoder | None = None,
) -> Mined:
    """Find negatives for each example among the documents of all.

    :param per_query: negatives wanted.
    :param depth: nearest documents to look at.
    :param margin: share of the answer's cosine that a negative must stay below.
    :param guide: a better model that checks them too.
    :raises InputError: if there are fewer than two documents, or a number is out of range.
    """
    if per_query < 1 or depth < per_query or not 0 < margin <= 1:
        raise InputError(
            f"{per_query=}, {depth=}, {margin=} do not fit, expected 1 <= per_query <= depth, margin in (0, 1]."
        )
    texts = list(dict.fromkeys(row.document for row in examples))
    if len(texts) < 2:
        raise InputError(f"There are {len(texts)} different documents, expected two or more. Add examples.")
    row_of = {text: position for position, text in enumerate(texts)}
    answers: dict[str, set[int]] = defaultdict(set)
    for row in examples:
        answers[folded(row.query)].add(row_of[row.document])
    scores = _Scores(encoder, examples, texts)
    second = None if guide is None else _Scores(guide, examples, texts)
    mined = Mined()
    for start in range(0, len(examples), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(examples)))
        first, guide_scores = scores.of(rows), None if second is None else second.of(rows)
        for line, position in enumerate(rows.tolist()):
            example = examples[position]
            _choose(
                mined,
                example,
                texts,
                row_of[example.document],
                answers[folded(example.query)],
                first[line],
                None if guide_scores is None else guide_scores[line],
                per_query=per_query,
                depth=depth,
                margin=margin,
            )
    return mined


class _Scores:
    """Cosines of queries and documents by one model."""

    def __init__(self, encoder: TextEncoder, examples: Sequence[Example], texts: Sequence[str]) -> None:
        self._queries = unit_rows(encoder.encode_query([row.query for row in examples]))
        self._documents = unit_rows(encoder.encode_document(texts))

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosines of some queries with all documents, (n, n_documents)."""
        scores: NDArray[np.float32] = self._queries[rows] @ self._documents.T
        return scores


def _choose(
    mined: Mined,
    example: Example,
    texts: Sequence[str],
    own: int,
    answers: set[int],
    scores: NDArray[np.float32],
    guide_scores: NDArray[np.float32] | None,
    *,
    per_query: int,
    depth: int,
    margin: float,
) -> None:
    """The nearest candidates of one example that are far enough from being answers."""
    near = np.argsort(-scores, kind="stable")[: depth + len(answers)]
    candidates = [int(row) for row in near if int(row) not in answers][:depth]
    chosen: list[int] = []
    for row in candidates:
        if len(chosen) == per_query:
            break
        mined.candidates += 1
        if scores[row] > margin * scores[own]:
            mined.too_near += 1
            _sample(mined, Dropped(example.query, example.document, texts[row], float(scores[row]), float(scores[own])))
        elif guide_scores is not None and guide_scores[row] > margin * guide_scores[own]:
            mined.by_the_guide += 1
            _sample(
                mined,
                Dropped(
                    example.query, example.document, texts[row], float(guide_scores[row]), float(guide_scores[own])
                ),
            )
        else:
            chosen.append(row)
    mined.without += not chosen
    mined.examples.append(example._replace(negatives=tuple(texts[row] for row in chosen)))


def _sample(mined: Mined, dropped: Dropped) -> None:
    if len(mined.samples) < _SAMPLES:
        mined.samples.append(dropped)
