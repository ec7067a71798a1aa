"""Quality on held-out examples, measured with the model as it is during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from encoder_tools.aliases import Log
from encoder_tools.evaluation.metrics import full_accuracy, retrieval_quality, sts_spearman
from encoder_tools.protocols import FloatMatrix
from encoder_tools.training.data.examples import Examples
from encoder_tools.training.engine.device import Ids
from encoder_tools.training.objectives.contrastive import ContrastiveObjective, tokenize
from encoder_tools.training.objectives.gradcache import parts_of
from encoder_tools.training.recipe import DataSet, Recipe
from encoder_tools.vectors import unit_rows

_DISTRACTORS = 2000  # documents of the training part among which the held-out ones are to be found


class Quality(NamedTuple):
    """One figure.

    :ivar measure: "nDCG@10" of held-out queries among held-out and some training documents, "Spearman" of held-out
        pairs' cosines, or "accuracy" on held-out labeled texts of a logistic regression over some training texts.
    :ivar value: in [0, 1], Spearman's in [-1, 1].
    :ivar examples: how many there were.
    :ivar by_dim: the same figure of prefixes of the vectors, by their width.
    """

    measure: str
    value: float
    examples: int
    by_dim: dict[int, float]

    def __str__(self) -> str:
        return f"{self.measure} {100 * self.value:.2f} over {self.examples} held-out examples"


def quality_of(
    objective: ContrastiveObjective, settings: DataSet, examples: Examples, longest: int, dims: Sequence[int] = ()
) -> Quality:
    """Quality of an objective's model on the held-out part of one set, and of the prefixes of these widths."""
    measure, figure = _figure(objective, settings, examples, longest)
    narrower = sorted({dim for dim in dims if dim < objective.width}, reverse=True)
    by_dim = {dim: round(figure(dim), 4) for dim in narrower}
    return Quality(measure, round(figure(objective.width), 4), len(examples.held_out), by_dim)


def _figure(
    objective: ContrastiveObjective, settings: DataSet, examples: Examples, longest: int
) -> tuple[str, Callable[[int], float]]:
    """What is measured, and how high it is at a width; texts are encoded once."""
    held_out = tokenize(objective.model, settings, examples.held_out, longest)
    queries = _encode(objective, held_out.queries)
    if settings.label:
        known = list({row.query: row for row in examples.train}.values())[:_DISTRACTORS]
        vectors = _encode(objective, tokenize(objective.model, settings, known, longest).queries)
        labels = [row.label for row in known], [row.label for row in examples.held_out]
        return "accuracy", lambda dim: full_accuracy(_cut(vectors, dim), labels[0], _cut(queries, dim), labels[1])
    if settings.score:
        right = _encode(objective, held_out.documents)
        return "Spearman", lambda dim: sts_spearman(_cut(queries, dim), _cut(right, dim), held_out.scores)
    whole = {example.document: example for example in (*examples.train[:_DISTRACTORS], *examples.held_out)}
    documents = _encode(objective, tokenize(objective.model, settings, list(whole.values()), longest).documents)
    row_of = {text: row for row, text in enumerate(whole)}
    answers: dict[str, set[int]] = {}
    for example in examples.held_out:
        answers.setdefault(example.query, set()).add(row_of[example.document])
    relevant = [dict.fromkeys(answers[example.query], 1) for example in examples.held_out]
    return "nDCG@10", lambda dim: retrieval_quality(_cut(queries, dim), _cut(documents, dim), relevant).ndcg_10


def _cut(vectors: FloatMatrix, dim: int) -> FloatMatrix:
    return unit_rows(vectors[:, :dim])


def _encode(objective: ContrastiveObjective, texts: list[Ids]) -> FloatMatrix:
    made: FloatMatrix = np.zeros((len(texts), 0), dtype=np.float32)
    with torch.no_grad():
        for part in parts_of([len(text) for text in texts], objective.recipe.training.tokens):
            vectors = objective.vectors([texts[row] for row in part]).cpu().numpy()
            if made.shape[1] == 0:
                made = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
            made[part] = vectors
    return made


def qualities_of(
    recipe: Recipe,
    examples: Sequence[Examples],
    objective: ContrastiveObjective,
    longest: int,
    log: Log,
    when: str,
) -> dict[str, Quality]:
    """Quality on the held-out examples of each file, logged.

    :param when: said before each line: "before" or "after".
    """
    measured = {}
    for row, part in zip(recipe.data, examples, strict=True):
        if part.held_out:
            measured[row.file] = quality_of(objective, row, part, longest, recipe.objective.dims)
            log(f"{when}: {row.file} {measured[row.file]}")
    return measured


def mean_quality(recipe: Recipe, examples: Sequence[Examples], objective: ContrastiveObjective, longest: int) -> float:
    """Mean of the held-out sets' figures."""
    values = [
        quality_of(objective, row, part, longest).value
        for row, part in zip(recipe.data, examples, strict=True)
        if part.held_out
    ]
    return sum(values) / len(values)
