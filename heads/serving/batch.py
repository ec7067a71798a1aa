"""Predictions of any number of heads from one pass of the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import InputError
from encoder_tools.protocols import TextEncoder
from heads.serving.arrays import checked_vectors
from heads.serving.chunking import pieces_of, together, together_as_vectors
from heads.serving.fitted_head import FittedHead, Prediction, check_scores
from heads.serving.scorers import Linear
from heads.validation import checked_encoder

_STACKS = 8


def classify(
    encoder: TextEncoder, texts: Sequence[str], heads: Mapping[str, FittedHead], *, top: int = 5, chunk: bool = True
) -> dict[str, list[Prediction]]:
    """What every head says of every text; the texts are encoded once.

    :param chunk: predict texts that are longer than the model reads in pieces, whose scores are averaged; else only
        their beginning is read.
    :return: by the name of the head, one prediction per text.
    :raises InputError: if a head takes other vectors than the encoder gives, or ``top`` is not positive.

    Example:
        >>> from encoder_tools import OnnxEncoder
        >>> from heads import LinearHead, classify
        >>> encoder = OnnxEncoder()
        >>> head = LinearHead(encoder).fit(["card lost", "card gone", "the rate", "a rate"], list("ccrr")).to_fitted()
        >>> classify(encoder, ["I lost my card"], {"intent": head})["intent"][0].labels[0].label
        'c'
    """
    for name, head in heads.items():
        if head.fingerprint not in (None, checked_encoder(encoder).fingerprint) and head.space is None:
            raise InputError(f"Head {name!r} was fitted with model {head.fingerprint}, not {encoder.fingerprint}.")
    if not chunk:
        return predict_all(heads, encoder.encode(texts), top)
    pieces = pieces_of(encoder, texts)
    return predict_all(heads, encoder.encode(pieces.texts), top, pieces.owners)


def predict_all(
    heads: Mapping[str, FittedHead], vectors: ArrayLike, top: int = 5, owners: NDArray[np.int64] | None = None
) -> dict[str, list[Prediction]]:
    """What every head says of every vector; linear heads are one product with one matrix.

    :param vectors: of shape (n, dim), of the model that the heads belong to.
    :param owners: where several vectors belong to a text, the index of each one's text, ascending; their scores are
        averaged.
    :raises InputError: if a head is of another width, or as :meth:`FittedHead.predictions` does.

    Example:
        >>> import numpy as np
        >>> from heads import LinearHead, predict_all
        >>> vectors = np.eye(4, dtype=np.float32)
        >>> heads = {"x": LinearHead().fit(vectors, list("aabb")).to_fitted()}
        >>> [prediction.labels[0].label for prediction in predict_all(heads, vectors)["x"]]
        ['a', 'a', 'b', 'b']
    """
    if not heads:
        return {}
    dims = {name: head.dim for name, head in heads.items()}
    first = next(iter(dims))
    for name, dim in dims.items():
        if dim != dims[first]:
            raise InputError(f"Head {name!r} takes vectors of width {dim}, head {first!r} {dims[first]}.")
    matrix, n = checked_vectors(vectors, dims[first]), checked_integer(top, "top", 1)
    linear = tuple(head.scorer for head in heads.values() if isinstance(head.scorer, Linear))
    with np.errstate(over="ignore", invalid="ignore"):
        stacked = _stacked(linear).scores(matrix) if linear else np.empty((len(matrix), 0), dtype=np.float32)
    predictions, column = {}, 0
    vectors_of_texts = matrix if owners is None else together_as_vectors(matrix, owners)
    counts = None if owners is None else np.bincount(owners)
    for name, head in heads.items():
        if isinstance(head.scorer, Linear):
            scores: NDArray[np.float32] = stacked[:, column : column + head.scorer.n_outputs]
            column += head.scorer.n_outputs
        else:
            scores = head.scorer.scores(matrix)
        check_scores(scores)
        scores = scores if owners is None else together(scores, owners)
        rows = head.predictions_from_scores(vectors_of_texts, scores, n)
        if counts is not None and counts.max() > 1:
            rows = [one._replace(pieces=int(count)) for one, count in zip(rows, counts, strict=True)]
        predictions[name] = rows
    return predictions


@lru_cache(maxsize=_STACKS)
def _stacked(scorers: tuple[Linear, ...]) -> Linear:
    if len(scorers) == 1:
        return scorers[0]
    return Linear(np.concatenate([s.weights for s in scorers]), np.concatenate([s.bias for s in scorers]))
