"""Does a graph give torch's vectors? Measured over the battery, from text to unit vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from encoder_tools.errors import ExportError
from encoder_tools.export.battery import Case
from encoder_tools.protocols import FloatMatrix
from encoder_tools.tokens import TextTokenizer, padded_batches
from encoder_tools.vectors import unit_rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Parity(NamedTuple):
    """Agreement of a graph with torch.

    :ivar max_abs_difference: worst absolute difference between components of unit vectors.
    :ivar min_cosine: lowest cosine between a graph's vector and torch's.
    :ivar mean_cosine: their mean over all texts.
    :ivar worst_case: kind of the case with the worst difference.
    """

    max_abs_difference: float
    min_cosine: float
    mean_cosine: float
    worst_case: str


def torch_vectors(model: SentenceTransformer, cases: Sequence[Case]) -> list[FloatMatrix]:
    """Unit vectors of every case by sentence-transformers, each case as one batch."""
    found = []
    for case in cases:
        vectors = model.encode(list(case.texts), batch_size=len(case.texts), convert_to_numpy=True, prompt="")
        found.append(unit_rows(np.asarray(vectors, dtype=np.float32)))
    return found


def graph_vectors(session: Any, tokenizer: TextTokenizer, pad_id: int, cases: Sequence[Case]) -> list[FloatMatrix]:
    """Unit vectors of every case by an ONNX Runtime session, each case as one batch."""
    found = []
    for case in cases:
        ids = tokenizer(case.texts)
        whole = len(ids) * max(1, *(len(row) for row in ids))  # a budget that keeps the case in one batch
        batch = next(padded_batches(ids, whole, pad_id))
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        vectors = session.run(["sentence_embedding"], feed)[0]
        found.append(unit_rows(vectors[np.argsort(batch.rows)]))  # back from longest-first to the case's order
    return found


def compare(wanted: Sequence[FloatMatrix], found: Sequence[FloatMatrix], cases: Sequence[Case]) -> Parity:
    """Worst difference, lowest and mean cosine over all cases. A NaN counts as infinitely different."""
    worst, kind, cosines = 0.0, cases[0].kind, []
    for case, left, right in zip(cases, wanted, found, strict=True):
        difference = float(np.nan_to_num(np.abs(left - right), nan=np.inf).max())
        if difference > worst:
            worst, kind = difference, case.kind
        filled = np.linalg.norm(left, axis=1) > 0  # an empty text may have no direction at all
        cosines.append((left * right).sum(axis=1)[filled])
    cosine = np.concatenate(cosines)
    return Parity(worst, float(cosine.min()), float(cosine.mean()), kind)


def check_tokenizer(model: SentenceTransformer, tokenizer: TextTokenizer, cases: Sequence[Case]) -> None:
    """Check that the torch-free tokenizer gives the ids of transformers' own.

    :raises ExportError: naming the first text on which they differ.
    """
    for case in cases:
        features = model.preprocess(list(case.texts))
        kept = features["attention_mask"].to(torch.bool)
        for text, ids, row, mask in zip(case.texts, tokenizer(case.texts), features["input_ids"], kept, strict=True):
            if ids != row[mask].tolist():
                raise ExportError(
                    f"tokenizer.json gives other ids than transformers' tokenizer for {text[:40]!r} ({case.kind}). "
                    "Save the tokenizer again with AutoTokenizer.from_pretrained(...).save_pretrained(...)."
                )
