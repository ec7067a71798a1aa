"""Published measures as pure functions of vectors, scores and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from encoder_tools.protocols import FloatMatrix
from encoder_tools.vectors import unit_rows

_CUT, _DEEPEST = 10, 100


class RetrievalQuality(NamedTuple):
    """Means over queries.

    :ivar ndcg_10: normalized discounted cumulative gain of the first ten (linear gain, as trec_eval computes it).
    :ivar recall_10: share of the relevant documents among the first ten.
    :ivar recall_100: the same among the first hundred.
    :ivar mrr_10: reciprocal rank of the first relevant document among the first ten, 0 if there is none.
    """

    ndcg_10: float
    recall_10: float
    recall_100: float
    mrr_10: float


def sts_spearman(left: FloatMatrix, right: FloatMatrix, scores: ArrayLike) -> float:
    """Spearman correlation between cosines and human scores: the measure of STS tasks in MTEB.

    :param left: of shape (n_pairs, dim); rows need not be unit vectors.
    :param right: of shape (n_pairs, dim).
    :param scores: of shape (n_pairs,).
    """
    from scipy.stats import spearmanr

    cosines = (unit_rows(left) * unit_rows(right)).sum(axis=1)
    return float(spearmanr(cosines, np.asarray(scores)).statistic)


def retrieval_quality(
    queries: FloatMatrix, documents: FloatMatrix, relevant: Sequence[Mapping[int, int]]
) -> RetrievalQuality:
    """Exact cosine search of every query, judged by trec_eval.

    :param queries: of shape (n_queries, dim).
    :param documents: of shape (n_documents, dim).
    :param relevant: for each query, gain by row of ``documents``; rows that are not named have gain 0.
    """
    from pytrec_eval import RelevanceEvaluator

    scores = unit_rows(queries) @ unit_rows(documents).T  # (Q, N)
    top = np.argsort(-scores, axis=1, kind="stable")[:, :_DEEPEST]
    # trec_eval sorts equal scores by name, so ranks are its scores
    run = {str(n): {str(row): float(-rank) for rank, row in enumerate(ranked)} for n, ranked in enumerate(top)}
    judged = {str(n): {str(row): int(gain) for row, gain in gains.items()} for n, gains in enumerate(relevant) if gains}
    measures = (f"ndcg_cut_{_CUT}", f"recall_{_CUT}", f"recall_{_DEEPEST}")
    by_query = RelevanceEvaluator(judged, set(measures)).evaluate(run)
    firsts = {name: dict(list(ranked.items())[:_CUT]) for name, ranked in run.items()}  # recip_rank has no cut
    ranks = RelevanceEvaluator(judged, {"recip_rank"}).evaluate(firsts)
    rows = [
        [*(by_query[name][measure] for measure in measures), ranks[name]["recip_rank"]]
        if name in by_query
        else [0.0] * 4
        for name in run
    ]
    return RetrievalQuality(*(float(value) for value in np.mean(rows, axis=0)))


def few_shot_accuracy(
    train: FloatMatrix,
    train_labels: Sequence[str],
    test: FloatMatrix,
    test_labels: Sequence[str],
    *,
    per_label: int = 8,
    draws: int = 10,
    seed: int = 42,
) -> float:
    """Classification in MTEB's protocol: draw 8 texts per label, fit a logistic regression, mean accuracy of 10 draws.

    The draws are the mteb package's own, so that the figure is its figure to the last text.
    """
    from sklearn.linear_model import LogisticRegression

    labels, truth = np.asarray(train_labels), np.asarray(test_labels)
    order = np.arange(len(labels))
    accuracies = []
    for _ in range(draws):
        np.random.RandomState(seed).shuffle(order)  # mteb's generator, over the order before
        rows = _first_of_each(order, labels, per_label)
        model = LogisticRegression(max_iter=100, random_state=seed).fit(train[rows], labels[rows])
        accuracies.append(float((model.predict(test) == truth).mean()))
    return float(np.mean(accuracies))


def full_accuracy(
    train: FloatMatrix, train_labels: Sequence[str], test: FloatMatrix, test_labels: Sequence[str]
) -> float:
    """Accuracy of a logistic regression on all training texts."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=30.0, max_iter=300).fit(train, np.asarray(train_labels))
    return float((model.predict(test) == np.asarray(test_labels)).mean())


def clustering_quality(vectors: FloatMatrix, labels: Sequence[str], *, seed: int = 42) -> float:
    """V-measure of mini-batch k-means with as many clusters as there are labels, as MTEB clusters.

    Source: Rosenberg and Hirschberg, "V-Measure", EMNLP 2007; Muennighoff et al., "MTEB", EACL 2023.

    :param vectors: (n, dim).
    :param labels: n names.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import v_measure_score

    model = MiniBatchKMeans(n_clusters=len(set(labels)), batch_size=500, n_init="auto", random_state=seed)
    return float(v_measure_score(list(labels), model.fit(vectors).labels_))


def _first_of_each(order: NDArray[np.int64], labels: NDArray[np.str_], count: int) -> list[int]:
    """The first ``count`` rows of each label, in this order."""
    taken: Counter[str] = Counter()
    rows = []
    for row in order:
        if taken[labels[row]] < count:
            taken[labels[row]] += 1
            rows.append(int(row))
    return rows
