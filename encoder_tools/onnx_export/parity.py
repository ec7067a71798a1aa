"""Parity of a graph with torch, measured over the battery, from text to unit vector."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from encoder_tools.errors import ExportError, is_out_of_memory, one_line
from encoder_tools.model.tokenizer import TextTokenizer, padded_batches
from encoder_tools.onnx_export.battery import Case
from encoder_tools.protocols import FloatMatrix
from encoder_tools.vectors import unit_rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


_PADDED = ("one token", "mixed lengths", "heavy padding", "random sentences")
_OF_A_CASE = 4  # texts of each such case
_MOST_TOKENS, _LEAST_TOGETHER = 2048, 8  # of the batch that is compared with texts alone


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
    """Unit vectors of every case by sentence-transformers, each case as one batch.

    :raises ExportError: if it fails on a case.
    """
    batches = []
    for case in cases:
        try:
            vectors = model.encode(list(case.texts), batch_size=len(case.texts), convert_to_numpy=True, prompt="")
        except Exception as error:
            memory = "There is not enough memory" if is_out_of_memory(error) else type(error).__name__
            raise ExportError(
                f"sentence-transformers fails on texts of the kind {case.kind!r} ({memory}: {one_line(error)}). Where "
                "they are long, set a smaller max_seq_length in sentence_bert_config.json."
            ) from error
        if not np.isfinite(vectors).all():
            raise ExportError(
                f"{_first_infinite(model, case.texts)} gives NaN or infinity in float32 on texts of the kind "
                f"{case.kind!r}, so the model has no vectors for them. Train it with a smaller learning rate or with "
                "weight decay, or restore its weights."
            )
        batches.append(unit_rows(np.asarray(vectors, dtype=np.float32)))
    return batches


def _first_infinite(model: SentenceTransformer, texts: Sequence[str]) -> str:
    """The first layer whose output is not finite."""
    named: list[str] = []
    hooks = [
        module.register_forward_hook(partial(_note_infinite, named, name))
        for name, module in model[0].named_modules()
        if not list(module.children())
    ]
    try:
        model.encode(list(texts), batch_size=len(texts), show_progress_bar=False, prompt="")
    finally:
        for hook in hooks:
            hook.remove()
    return f"The layer {named[0]!r}" if named else "The head"


def _note_infinite(named: list[str], name: str, _module: torch.nn.Module, _inputs: Any, output: Any) -> None:
    if isinstance(output, torch.Tensor) and output.is_floating_point() and not output.isfinite().all():
        named.append(name)


def graph_vectors(session: Any, tokenizer: TextTokenizer, pad_id: int, cases: Sequence[Case]) -> list[FloatMatrix]:
    """Unit vectors of every case by an ONNX Runtime session, each case as one batch."""
    batches = []
    for case in cases:
        ids = tokenizer(case.texts)
        whole = len(ids) * max(1, *(len(row) for row in ids))  # a budget that keeps the case in one batch
        batch = next(padded_batches(ids, whole, pad_id))
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        try:
            vectors = session.run(["sentence_embedding"], feed)[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base below Exception
            why = "for want of memory" if is_out_of_memory(error) else f"({one_line(error)})"
            raise ExportError(
                f"ONNX Runtime cannot run the exported graph on texts of the kind {case.kind!r} {why}. Nothing was "
                "written; this architecture cannot be exported as it is."
            ) from error
        batches.append(unit_rows(vectors[np.argsort(batch.rows)]))  # back from longest-first to the case's order
    return batches


def compare(expected: Sequence[FloatMatrix], actual: Sequence[FloatMatrix], cases: Sequence[Case]) -> Parity:
    """Worst difference, lowest and mean cosine over all cases. A NaN counts as infinitely different."""
    worst, kind, cosines = 0.0, cases[0].kind, []
    for case, left, right in zip(cases, expected, actual, strict=True):
        difference = float(np.nan_to_num(np.abs(left - right), nan=np.inf).max())
        if difference > worst:
            worst, kind = difference, case.kind
        filled = np.linalg.norm(left, axis=1) > 0  # an empty text may have no direction at all
        cosines.append((left * right).sum(axis=1)[filled])
    cosine = np.concatenate(cosines)
    return Parity(worst, float(cosine.min()), float(cosine.mean()), kind)


def padding_effect(session: Any, tokenizer: TextTokenizer, pad_id: int, cases: Sequence[Case]) -> tuple[float, float]:
    """How much vectors change with the batch: the worst difference of texts alone to a padded batch, lowest cosine."""
    texts = tuple(text for case in cases if case.kind in _PADDED for text in case.texts[:_OF_A_CASE] if text)
    widest = max(len(ids) for ids in tokenizer(texts))
    texts = texts[: max(_LEAST_TOGETHER, _MOST_TOKENS // widest)]  # what a batch computes takes memory as well
    (together,) = graph_vectors(session, tokenizer, pad_id, [Case("together", texts)])
    alone = np.concatenate(graph_vectors(session, tokenizer, pad_id, [Case("alone", (text,)) for text in texts]))
    difference = float(np.nan_to_num(np.abs(alone - together), nan=np.inf).max())
    return difference, float(np.nan_to_num((alone * together).sum(axis=1), nan=-1).min())


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
