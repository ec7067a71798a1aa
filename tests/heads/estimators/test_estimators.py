"""Every kind of scorer, calibration and ood_score: what is saved is what is loaded, and computes what it should."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import InputError
from heads import FittedHead, load_head, predict_all, save_head
from heads.serving.abstention import Abstention
from heads.serving.calibration import Calibration
from heads.serving.fitted_head import LabelProbability
from heads.serving.ood import Distance, Energy, Mahalanobis, MaxProbability, Scope
from heads.serving.scorers import Hierarchy, Layers, Linear, Neighbors, Scorer

RNG = np.random.default_rng(3)
DIM, LABELS = 6, ("a", "b", "c", "d")


def normal(*shape: int):
    return RNG.standard_normal(shape).astype(np.float32)


def unit(*shape: int):
    rows = normal(*shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


FOUR = Linear(normal(4, DIM), normal(4))
SCORERS: list[Scorer] = [
    FOUR,
    Layers((Linear(normal(8, DIM), normal(8)), Linear(normal(4, 8), normal(4)))),
    Neighbors(unit(20, DIM), np.arange(20) % 4, 4, 5, 10.0, 0.01),
    Hierarchy(Linear(normal(2, DIM), normal(2)), FOUR, np.array([0, 0, 1, 1])),
]
VECTORS = unit(50, DIM)


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.kind)
def test_every_kind_comes_back_from_disk_exactly(scorer: Scorer, tmp_path: Path):
    calibration = Calibration("isotonic", 2.0, None, np.array([0.1, 0.5]), np.array([0.2, 0.9]))
    usual = FittedHead(scorer, LABELS, None, calibration=calibration).predict_proba(VECTORS)
    head = FittedHead(
        scorer,
        LABELS,
        "model",
        "root",
        calibration=calibration,
        abstention=Abstention(float(np.median(usual.max(axis=1))), "errors", 0.02, 0.9, 500),
        scope=Scope(
            (MaxProbability(), Energy(), Mahalanobis(normal(4, 3), normal(DIM, 3)), Distance(unit(5, DIM))),
            np.array([1.0, 0.5, 0.2, 0.1]),
            np.zeros(4),
            1.5,
            0.95,
        ),
    )
    save_head(head, tmp_path / "head")
    loaded = load_head(tmp_path / "head")
    assert loaded.predictions(VECTORS) == head.predictions(VECTORS)
    assert {j.abstained for j in head.predictions(VECTORS)} == {True, False}
    assert (loaded.space, loaded.abstention, loaded.scope.name) == (
        "root",
        head.abstention,
        "doubt+energy+mahalanobis+distance",
    )


def test_a_perceptron_is_its_layers():
    first, second = SCORERS[1].layers
    hidden = np.maximum(VECTORS @ first.weights.T + first.bias, 0)
    np.testing.assert_allclose(SCORERS[1].scores(VECTORS), hidden @ second.weights.T + second.bias, rtol=1e-5)


def test_neighbors_vote_by_their_cosine():
    examples = np.eye(3, dtype=np.float32)
    vector = np.array([[0.0, 0.6, 0.8]], np.float32)  # nearest: the third by 0.8, the second by 0.6
    for relative, to in ((True, 0.8), (False, 1.0)):  # the second as heads of an earlier version have it
        scorer = Neighbors(examples, np.array([0, 0, 1]), 2, 2, 3.0, 1e-3, relative)
        votes = np.exp(3 * (np.array([0.6, 0.8]) - to)) + 1e-3
        found = FittedHead(scorer, ("x", "y"), None).predict_proba(vector)[0]
        np.testing.assert_allclose(found, votes / votes.sum(), rtol=1e-5)
        assert Neighbors.restore(scorer.tensors(), scorer.settings()).relative == relative


def test_leaves_of_a_parent_share_its_probability():
    tree: Any = SCORERS[3]
    shares = FittedHead(tree, LABELS, None).predict_proba(VECTORS)
    parents = FittedHead(tree.parents, ("p", "q"), None).predict_proba(VECTORS)
    np.testing.assert_allclose(shares[:, :2].sum(axis=1), parents[:, 0], rtol=1e-4)


def test_any_number_of_labels_and_numbers():
    many = FittedHead(FOUR, LABELS, None, link="sigmoid", thresholds=np.array([0.5, 0.5, 0.9, 0.1]))
    (judged,) = many.predictions(VECTORS[:1])
    shares = many.predict_proba(VECTORS[:1])[0]
    assert set(judged.chosen) == {n for n, p, t in zip(LABELS, shares, many.thresholds, strict=True) if p >= t}
    assert many.predict(VECTORS[:1])[0] == judged.chosen
    number = FittedHead(Linear(FOUR.weights[:1], FOUR.bias[:1]), ("stars",), None, link="identity")
    assert number.predictions(VECTORS[:1])[0].value == pytest.approx(float(number.predict(VECTORS[:1])[0]))
    with pytest.raises(InputError, match="no probabilities"):
        number.predict_proba(VECTORS)


def test_many_heads_say_together_what_each_says_alone():
    heads = {scorer.kind: FittedHead(scorer, LABELS, None) for scorer in SCORERS}
    heads["second"] = FittedHead.linear(normal(3, DIM), normal(3), ("x", "y", "z"), None)
    together = predict_all(heads, VECTORS, 2)
    for name, head in heads.items():
        for ours, alone in zip(together[name], head.predictions(VECTORS, 2), strict=True):
            assert ours.labels[0].label == alone.labels[0].label
            assert ours.labels[0].probability == pytest.approx(alone.labels[0].probability, rel=1e-4)
    with pytest.raises(InputError, match="width 3"):
        predict_all(heads | {"odd": FittedHead.linear(np.eye(3), np.zeros(3), ("x", "y", "z"), None)}, VECTORS)


def test_calibrations_compute_what_they_say():
    scores = np.log(np.array([[0.5, 0.3, 0.2]], np.float32))
    np.testing.assert_allclose(Calibration().probabilities(scores, "softmax"), [[0.5, 0.3, 0.2]], rtol=1e-5)
    doubled = Calibration("temperature", 2.0).probabilities(scores, "softmax")
    np.testing.assert_allclose(doubled, np.array([[25, 9, 4]]) / 38, rtol=1e-5)
    shifted = Calibration("platt", 1.0, np.log([1.0, 2.0, 1.0])).probabilities(scores, "softmax")
    np.testing.assert_allclose(shifted, np.array([[5, 6, 2]]) / 13, rtol=1e-5)
    curve = Calibration("isotonic", 1.0, None, np.array([0.2, 0.5]), np.array([0.1, 0.8]))
    np.testing.assert_allclose(
        curve.probabilities(scores, "softmax"), np.array([[0.8, 1 / 3, 0.1]]) / (0.9 + 1 / 3), rtol=1e-4
    )


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Calibration("x"),
        lambda: Calibration("temperature", float("nan")),
        lambda: Calibration("isotonic", 1.0, None, np.array([0.5, 0.2]), np.array([0.1, 0.2])),
        lambda: Calibration("isotonic", 1.0, None, np.array([0.1, 0.2]), np.array([0.2, 0.1])),
        lambda: Layers(()),
        lambda: Layers((FOUR, FOUR)),
        lambda: Neighbors(unit(3, DIM), np.array([0, 1, 2]), 2, 1, 1.0, 1.0),
        lambda: Neighbors(unit(3, DIM), np.array([0, 1, 1]), 2, 4, 1.0, 1.0),
        lambda: Hierarchy(Linear(normal(3, DIM), normal(3)), FOUR, np.array([0, 0, 1, 1])),
        lambda: Mahalanobis(normal(2, 3), normal(DIM, 4)),
        lambda: Scope((), np.zeros(0), np.zeros(0), 0.0, 0.9),
        lambda: FittedHead(FOUR, LABELS, None, link="sigmoid"),
        lambda: FittedHead(FOUR, LABELS, None, thresholds=np.zeros(4)),
        lambda: FittedHead(FOUR, LABELS, None, calibration=Calibration("platt", 1.0, np.zeros(3))),
    ],
)
def test_parts_that_do_not_fit_are_refused(bad: Any):
    with pytest.raises(InputError):
        bad()


def test_the_strangest_are_out_of_scope():
    scope = Scope((Distance(np.eye(DIM, dtype=np.float32)[:2]),), np.ones(1), np.zeros(1), 0.5, 0.95)
    head = FittedHead(Linear(np.eye(DIM)[:4], np.zeros(4)), LABELS, None, scope=scope)
    near, far = head.predictions(np.eye(DIM)[[0, 5]])
    assert (near.out_of_scope, far.out_of_scope) == (False, True)
    assert isinstance(near.labels[0], LabelProbability)


def test_long_texts_are_judged_in_pieces(encoder_default: Any):
    from heads import ZeroShotHead, classify
    from heads.serving.chunking import pieces_of

    topics = {"sport": "football, tennis and other sports", "money": "banks, prices and the economy"}
    head = ZeroShotHead(encoder_default, topics).fit().to_fitted()
    beginning, rest = "the team scored a goal. " * 100, "inflation, banks and interest rates rise. " * 300
    texts = ["a goal in the last minute", beginning + rest, ""]
    pieces = pieces_of(encoder_default, texts)
    assert (pieces.counts[0], pieces.counts[2]) == (1, 1)
    assert pieces.counts[1] > 3
    assert "".join("".join(pieces.texts[1:-1]).split()) == "".join(texts[1].split())
    lengths = [len(ids) for ids in encoder_default.tokenize(pieces.texts, truncate=False)]
    assert max(lengths) <= encoder_default.max_length
    assert min(lengths[1:-1]) > max(lengths) / 2
    whole = classify(encoder_default, texts, {"topic": head})["topic"]
    cut = classify(encoder_default, texts, {"topic": head}, chunk=False)["topic"]
    assert (whole[1].labels[0].label, cut[1].labels[0].label, whole[1].pieces) == ("money", "sport", pieces.counts[1])
    scores = head.decision_function(encoder_default.encode(pieces.texts[1:-1])).mean(axis=0)
    expected = head.probabilities(scores[None, :])[0].max()
    assert whole[1].labels[0].probability == pytest.approx(float(expected), rel=1e-4)
    assert whole[0].labels == cut[0].labels
