"""Quality on examples that were held out, with the model as it is in training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from encoder_tools.evaluate.metrics import full_accuracy, retrieval_quality, sts_spearman
from encoder_tools.protocols import FloatMatrix
from encoder_tools.train.cached import parts_of
from encoder_tools.train.contrastive import ContrastiveObjective, tokenise
from encoder_tools.train.data import Examples
from encoder_tools.train.recipe import DataSet
from encoder_tools.train.tensors import Ids

_DISTRACTORS = 2000  # documents of the training part among which the held-out ones are to be found


class Quality(NamedTuple):
    """One figure.

    :ivar measure: "nDCG@10" of held-out queries among held-out and some training documents, "Spearman" of held-out
        pairs' cosines, or "accuracy" on held-out labelled texts of a logistic regression over some training texts.
    :ivar value: in [0, 1], Spearman's in [-1, 1].
    :ivar examples: how many there were.
    """

    measure: str
    value: float
    examples: int

    def __str__(self) -> str:
        return f"{self.measure} {100 * self.value:.2f} over {self.examples} held-out examples"


def quality_of(objective: ContrastiveObjective, settings: DataSet, examples: Examples, longest: int) -> Quality:
    """Quality of an objective's model on the held-out part of one set."""
    held_out = tokenise(objective.model, settings, examples.held_out, longest)
    queries = _encode(objective, held_out.queries)
    if settings.label:
        value = _accuracy(objective, settings, examples, queries, longest)
        return Quality("accuracy", round(value, 4), len(held_out))
    if settings.score:
        value = sts_spearman(queries, _encode(objective, held_out.documents), held_out.scores)
        return Quality("Spearman", round(value, 4), len(held_out))
    whole = {example.document: example for example in (*examples.train[:_DISTRACTORS], *examples.held_out)}
    pool = tokenise(objective.model, settings, list(whole.values()), longest)
    documents = _encode(objective, pool.documents)
    place = {text: row for row, text in enumerate(whole)}
    answers: dict[str, set[int]] = {}
    for example in examples.held_out:
        answers.setdefault(example.query, set()).add(place[example.document])
    relevant = [dict.fromkeys(answers[example.query], 1) for example in examples.held_out]
    found = retrieval_quality(queries, documents, relevant)
    return Quality("nDCG@10", round(found.ndcg_10, 4), len(held_out))


def _accuracy(
    objective: ContrastiveObjective, settings: DataSet, examples: Examples, queries: FloatMatrix, longest: int
) -> float:
    known = list({row.query: row for row in examples.train}.values())[:_DISTRACTORS]
    vectors = _encode(objective, tokenise(objective.model, settings, known, longest).queries)
    labels = [row.label for row in known], [row.label for row in examples.held_out]
    return full_accuracy(vectors, labels[0], queries, labels[1])


def _encode(objective: ContrastiveObjective, texts: list[Ids]) -> FloatMatrix:
    made: FloatMatrix = np.zeros((len(texts), 0), dtype=np.float32)
    with torch.no_grad():
        for part in parts_of([len(text) for text in texts], objective.recipe.training.tokens):
            vectors = objective.vectors([texts[row] for row in part]).cpu().numpy()
            if made.shape[1] == 0:
                made = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
            made[part] = vectors
    return made
