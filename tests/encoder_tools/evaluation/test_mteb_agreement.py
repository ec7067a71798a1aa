"""The same vectors through the mteb package and through ours: the same figures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from encoder_tools.evaluation import metrics

DIM = 24


class Table:
    """An encoder, as mteb wants one, that looks its vectors up; the text is the row's number."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.mteb_model_meta: Any = None

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        return self.vectors[[int(text) for batch in inputs for text in batch["text"]]]

    def similarity(self, left: np.ndarray, right: np.ndarray) -> Any:
        import torch

        return (
            torch.nn.functional.normalize(torch.tensor(left), dim=1)
            @ torch.nn.functional.normalize(torch.tensor(right), dim=1).T
        )

    def similarity_pairwise(self, left: np.ndarray, right: np.ndarray) -> Any:
        import torch

        return torch.nn.functional.cosine_similarity(torch.tensor(left), torch.tensor(right))


@pytest.fixture(scope="module")
def mteb() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what mteb imports is not ours
        import mteb

    return mteb


def metadata(mteb: Any, kind: str, score: str) -> Any:
    return mteb.TaskMetadata(
        name=f"Ours{kind}",
        description="Vectors of ours.",
        dataset={"path": "ours/none", "revision": "0"},
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
    )


@pytest.fixture
def vectors() -> np.ndarray:
    """Twelve fuzzy clusters of forty."""
    random = np.random.default_rng(3)
    centers = random.standard_normal((12, DIM))
    return (np.repeat(centers, 40, axis=0) + 1.8 * random.standard_normal((480, DIM))).astype(np.float32)


LABELS = [f"label {row // 40}" for row in range(480)]


def run(task: Any, vectors: np.ndarray) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(task.evaluate(Table(vectors), "test", encode_kwargs={})["default"])


def test_few_shot_classification_is_mtebs(mteb: Any, vectors: np.ndarray):
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskClassification

    rows = np.random.default_rng(5).permutation(480)
    splits = {"train": rows[:300], "test": rows[300:]}

    class Task(AbsTaskClassification):  # type: ignore[misc]
        metadata = metadata(mteb, "Classification", "accuracy")

    task = Task()
    task.dataset = DatasetDict(
        {
            name: Dataset.from_dict({"text": [str(row) for row in part], "label": [LABELS[row] for row in part]})
            for name, part in splits.items()
        }
    )
    task.data_loaded = True
    theirs = run(task, vectors)["accuracy"]
    names = {name: [LABELS[row] for row in part] for name, part in splits.items()}
    ours = metrics.few_shot_accuracy(vectors[splits["train"]], names["train"], vectors[splits["test"]], names["test"])
    assert 0.5 < ours < 0.99
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_sts_is_mtebs(mteb: Any, vectors: np.ndarray):
    from datasets import Dataset
    from mteb.abstasks import AbsTaskSTS

    scores = np.random.default_rng(6).integers(0, 11, size=240) / 2

    class Task(AbsTaskSTS):  # type: ignore[misc]
        metadata = metadata(mteb, "STS", "cosine_spearman")

    task = Task()
    sides = [[str(row) for row in range(start, start + 240)] for start in (0, 240)]
    task.dataset = {"test": Dataset.from_dict({"sentence1": sides[0], "sentence2": sides[1], "score": scores.tolist()})}
    task.data_loaded = True
    theirs = run(task, vectors)["cosine_spearman"]
    assert metrics.sts_spearman(vectors[:240], vectors[240:], scores) == pytest.approx(theirs, abs=1e-6)


def test_clustering_is_mtebs(mteb: Any, vectors: np.ndarray):
    from datasets import Dataset
    from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy

    class Task(AbsTaskClusteringLegacy):  # type: ignore[misc]
        metadata = metadata(mteb, "Clustering", "v_measure")

    task = Task()
    task.dataset = {"test": Dataset.from_dict({"sentences": [[str(row) for row in range(480)]], "labels": [LABELS]})}
    task.data_loaded = True
    theirs = run(task, vectors)["v_measure"]
    assert metrics.clustering_quality(vectors, LABELS) == pytest.approx(theirs, abs=1e-9)


def test_retrieval_is_mtebs(mteb: Any, vectors: np.ndarray):
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    random = np.random.default_rng(8)
    queries, documents = vectors[::20], vectors
    gains = [{int(row): int(random.integers(1, 4)) for row in random.choice(480, 5, False)} for _ in queries]
    for number, row in enumerate(range(0, 480, 20)):
        gains[number].update({row + 1: 2, row + 2: 1})  # neighbors of the query: some are found
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, documents)]
    scores = unit[0] @ unit[1].T
    results = {str(q): {f"{d:04d}": float(scores[q, d]) for d in np.argsort(-scores[q])[:100]} for q in range(24)}
    judged = {str(q): {f"{d:04d}": gain for d, gain in row.items()} for q, row in enumerate(gains)}
    theirs = calculate_retrieval_scores(results, judged, [10, 100])
    ours = metrics.retrieval_quality(queries, documents, gains)
    assert ours.ndcg_10 == pytest.approx(theirs.ndcg["NDCG@10"], abs=1e-5)  # mteb rounds to five places
    assert ours.recall_10 == pytest.approx(theirs.recall["Recall@10"], abs=1e-5)
    assert ours.recall_100 == pytest.approx(theirs.recall["Recall@100"], abs=1e-5)
    assert ours.mrr_10 == pytest.approx(np.mean(theirs.mrr["MRR@10"]), abs=1e-5)
