from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from encoder_tools.evaluation.metrics import few_shot_accuracy, retrieval_quality, sts_spearman


def test_spearman_is_of_cosines_and_ignores_lengths():
    random = np.random.default_rng(0)
    left, right = (random.standard_normal((30, 4)).astype(np.float32) for _ in range(2))
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    assert sts_spearman(left * 3, right, np.exp(cosines)) == pytest.approx(1.0)
    assert sts_spearman(left, right, -cosines) == pytest.approx(-1.0)


def test_retrieval_agrees_with_sentence_transformers():
    random = np.random.default_rng(1)
    queries = random.standard_normal((20, 6)).astype(np.float32)
    documents = random.standard_normal((50, 6)).astype(np.float32)
    relevant = [{int(row): 1 for row in random.choice(50, size=3, replace=False)} for _ in range(20)]
    found = retrieval_quality(queries, documents, relevant)
    names = {str(row): str(row) for row in range(50)}
    peer = InformationRetrievalEvaluator(
        {str(row): "" for row in range(20)},
        names,
        {str(row): {str(place) for place in gains} for row, gains in enumerate(relevant)},
    )
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (queries, documents)]
    ranking = np.argsort(-(unit[0] @ unit[1].T), axis=1)[:, :10]
    hits = [[{"corpus_id": str(place), "score": -float(at)} for at, place in enumerate(row)] for row in ranking]
    scores = peer.compute_metrics(hits)
    assert found.ndcg_10 == pytest.approx(scores["ndcg@k"][10])
    assert found.recall_10 == pytest.approx(scores["recall@k"][10])
    assert found.mrr_10 == pytest.approx(scores["mrr@k"][10])


def test_graded_gains_by_hand():
    eye = np.eye(3, dtype=np.float32)
    query = np.array([[3.0, 2.0, 1.0]], dtype=np.float32)
    found = retrieval_quality(query, eye, [{0: 1, 1: 4}])
    assert found.ndcg_10 == pytest.approx((1 + 4 / np.log2(3)) / (4 + 1 / np.log2(3)))
    assert found == (found.ndcg_10, 1.0, 1.0, 1.0)


def test_few_shot_accuracy_of_separable_and_random_vectors():
    random = np.random.default_rng(2)
    labels = [str(number % 4) for number in range(200)]
    centers = np.eye(4, dtype=np.float32)[[int(label) for label in labels]]
    assert few_shot_accuracy(centers, labels, centers, labels) == 1.0
    noise = random.standard_normal((200, 4)).astype(np.float32)
    assert few_shot_accuracy(noise, labels, random.standard_normal((200, 4)).astype(np.float32), labels) < 0.45
