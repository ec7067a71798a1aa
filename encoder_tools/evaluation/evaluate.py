"""The figures of one model on one evaluation set, for each width of its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from encoder_tools.errors import InputError
from encoder_tools.evaluation import metrics
from encoder_tools.evaluation.tasks import Task, read_labeled, read_pairs, read_retrieval, read_texts
from encoder_tools.model.embedding_space import agreement_of
from encoder_tools.protocols import FloatMatrix, TextEncoder
from encoder_tools.vectors import unit_rows


@dataclass(frozen=True)
class Figure:
    """One measured number.

    :ivar task: name of the set.
    :ivar measure: such as "spearman" or "ndcg@10".
    :ivar dim: width of the vectors.
    :ivar value: in [0, 1], Spearman's in [-1, 1].
    """

    task: str
    measure: str
    dim: int
    value: float


class Encoded(NamedTuple):
    """Vectors of a set, one matrix for each of its lists of texts, and what people said of them."""

    left: FloatMatrix
    right: FloatMatrix
    truth: Sequence[object]
    more_truth: Sequence[object] = ()


def evaluate(
    encoder: TextEncoder, task: Task, *, dims: Sequence[int] = (), documents: TextEncoder | None = None
) -> list[Figure]:
    """Encode a set once and measure it at every width: prefixes of the vectors, normalized again.

    :param dims: widths beside the model's own.
    :param documents: another model of the same space, that encodes the documents of retrieval sets and that agreement
        is measured with.
    :raises FileMissingError: if a file of the set is not there.
    :raises FileCorruptError: if one is not of its shape.
    :raises InputError: if agreement is to be measured with no other model.

    Example:
        >>> from pathlib import Path
        >>> from encoder_tools import OnnxEncoder, Task, evaluate
        >>> rows = [("a card", "my card", 5), ("a card", "rain", 0), ("sun", "sunshine", 4), ("sun", "a bank", 1)]
        >>> lines = [f'{{"sentence1": "{a}", "sentence2": "{b}", "score": {score}}}' for a, b, score in rows]
        >>> _ = Path("mine.jsonl").write_text(chr(10).join(lines))
        >>> [figure.measure for figure in evaluate(OnnxEncoder(), Task("mine", "sts", Path("mine.jsonl")))]
        ['spearman']
    """
    if task.kind == "agreement" and documents is None:
        raise InputError(f"{task.path} is for the agreement of two models. Name the other one (--documents-model).")
    encoded = _encode(encoder, task, documents or encoder)
    figures = []
    for dim in sorted({*(dim for dim in dims if dim < encoder.dim), encoder.dim}, reverse=True):
        cut = Encoded(unit_rows(encoded.left[:, :dim]), unit_rows(encoded.right[:, :dim]), *encoded[2:])
        figures += [Figure(task.name, name, dim, value) for name, value in _measure(task, cut).items()]
    return figures


def _encode(encoder: TextEncoder, task: Task, documents: TextEncoder) -> Encoded:
    if task.kind == "sts":
        pairs = read_pairs(task)
        sides = [[pair.sentence1 for pair in pairs], [pair.sentence2 for pair in pairs]]
        return Encoded(encoder.encode(sides[0]), encoder.encode(sides[1]), [pair.score for pair in pairs])
    if task.kind == "retrieval":
        retrieval = read_retrieval(task)
        return Encoded(
            encoder.encode_query(retrieval.queries), documents.encode_document(retrieval.documents), retrieval.relevant
        )
    if task.kind == "agreement":
        texts = read_texts(task.path)
        return Encoded(encoder.encode(texts), documents.encode(texts), ())
    if task.kind == "clustering":
        rows = read_labeled(task.path)
        vectors = encoder.encode([row.text for row in rows])
        return Encoded(vectors, vectors[:0], [str(row.label) for row in rows])
    train, test = (read_labeled(task.path / f"{split}.jsonl") for split in ("train", "test"))
    left, right = (encoder.encode([row.text for row in rows]) for rows in (train, test))
    return Encoded(left, right, [str(row.label) for row in train], [str(row.label) for row in test])


def _measure(task: Task, encoded: Encoded) -> dict[str, float]:
    left, right, truth, more = encoded
    if task.kind == "sts":
        return {"spearman": metrics.sts_spearman(left, right, truth)}  # type: ignore[arg-type]
    if task.kind == "retrieval":
        judged = metrics.retrieval_quality(left, right, truth)  # type: ignore[arg-type]
        return {
            "ndcg@10": judged.ndcg_10,
            "recall@10": judged.recall_10,
            "recall@100": judged.recall_100,
            "mrr@10": judged.mrr_10,
        }
    if task.kind == "agreement":
        agreement = agreement_of(left, right)
        return {"mean cosine": agreement.mean_cosine, "lowest cosine": agreement.lowest_cosine}
    names = [str(label) for label in truth]
    if task.kind == "clustering":
        return {"v-measure": metrics.clustering_quality(left, names)}
    expected = [str(label) for label in more]
    return {
        "accuracy (8 a label)": metrics.few_shot_accuracy(left, names, right, expected),
        "accuracy (all)": metrics.full_accuracy(left, names, right, expected),
    }
