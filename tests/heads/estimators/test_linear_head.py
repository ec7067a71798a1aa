import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.vectors import unit_rows
from heads import FittedHead, LinearHead
from heads.selection.regularization import fit_temperature


def test_texts_are_classified(head: LinearHead):
    assert head.predict(["the cat", "the oslo", "the pink"]).tolist() == ["animal", "place", "colour"]


def test_texts_and_their_vectors_give_one_head(head: LinearHead, encoder: Any, labeled: tuple[list[str], list[str]]):
    texts, labels = labeled
    from_vectors = LinearHead().fit(encoder.encode(texts), labels)
    np.testing.assert_allclose(from_vectors.predict_proba(encoder.encode(texts)), head.predict_proba(texts), atol=1e-6)
    assert (head.fingerprint_, from_vectors.fingerprint_) == ("words-32", None)


def test_equals_scikit_learns_logistic_regression(encoder: Any, labeled: tuple[list[str], list[str]]):
    vectors = encoder.encode(labeled[0]).astype(np.float64)
    ours = LinearHead(C=10, tol=1e-7).fit(vectors, labeled[1])
    theirs = LogisticRegression(C=10, tol=1e-10, max_iter=1000).fit(vectors, labeled[1])
    np.testing.assert_allclose(ours.predict_proba(vectors), theirs.predict_proba(vectors), atol=1e-4)


def test_noise_gives_no_confidence_and_signal_does():
    rng = np.random.default_rng(0)
    vectors, fresh = (rng.standard_normal((400, 20)) / np.sqrt(20) for _ in range(2))
    signal = LinearHead().fit(vectors, vectors[:, 0] > 0)
    noise = LinearHead().fit(vectors, rng.random(400) > 0.5)
    assert signal.score(fresh, fresh[:, 0] > 0) > 0.9
    assert signal.predict_proba(fresh).max(axis=1).mean() > 0.85
    assert noise.predict_proba(fresh).max(axis=1).mean() < 0.6


def test_noisy_labels_are_regularized_more_than_clean_ones():
    rng = np.random.default_rng(0)
    vectors = unit_rows(rng.standard_normal((800, 128)).astype(np.float32))
    clean = vectors[:, :2].argmax(axis=1)
    noisy = np.where(rng.random(800) < 0.3, 1 - clean, clean)
    assert LinearHead().fit(vectors, noisy).C_ < LinearHead().fit(vectors, clean).C_


def test_weights_count_as_repetition_does():
    rng = np.random.default_rng(0)
    vectors = unit_rows(rng.standard_normal((60, 8)).astype(np.float32))
    labels = (vectors[:, 0] + 0.3 * rng.standard_normal(60) > 0).astype(int)
    times = rng.integers(0, 4, 60)
    weighted = LinearHead().fit(vectors, labels, sample_weight=times)
    repeated = LinearHead().fit(np.repeat(vectors, times, axis=0), np.repeat(labels, times))
    assert weighted.C_ == repeated.C_
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-5)


def test_balanced_classes_find_the_rare_one():
    rng = np.random.default_rng(0)
    labels = (rng.random(1000) < 0.03).astype(int)
    vectors = unit_rows((rng.standard_normal((1000, 16)) + 1.2 * labels[:, None] * np.eye(16)[0]).astype(np.float32))
    plain, balanced = (LinearHead(class_weight=how).fit(vectors, labels) for how in (None, "balanced"))
    assert balanced.predict(vectors)[labels == 1].mean() > plain.predict(vectors)[labels == 1].mean() + 0.3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "expected \\(2,\\)"),
        ([[1.0, 1.0]], "1D"),
        ([1, -1], "negative"),
        ([0, 0], "zeros"),
        ([1, 0], "weight 0"),
    ],
)
def test_bad_weights_are_refused(weights: Any, message: str):
    with pytest.raises(InputError, match=message):
        LinearHead().fit([[1.0, 0.0], [0.0, 1.0]], ["a", "b"], sample_weight=weights)


def test_chosen_strength_does_not_depend_on_the_vectors_scale(encoder: Any, labeled: tuple[list[str], list[str]]):
    vectors = encoder.encode(labeled[0])
    small, large = (LinearHead().fit(vectors * scale, labeled[1]) for scale in (1, 100))
    assert large.C_ * 100**2 == pytest.approx(small.C_, rel=1e-4)


def test_one_example_per_class_is_enough(encoder: Any):
    head = LinearHead(encoder).fit(["red", "cat"], ["colour", "animal"])
    assert head.predict(["the cat", "the red"]).tolist() == ["animal", "colour"]


def test_many_classes_take_steps_in_spite_of_small_gradients():
    # scikit-learn's absolute tolerance of 1e-4 would stop at zero weights here
    vectors = np.random.default_rng(0).standard_normal((600, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.arange(600) % 300
    assert LinearHead(C=1000.0).fit(vectors, labels).score(vectors, labels) > 0.95


def test_clones_share_an_encoder_that_cannot_be_copied(encoder: Any, labeled: tuple[list[str], list[str]]):
    assert clone(LinearHead(encoder, C=2.0)).encoder is encoder
    search = GridSearchCV(LinearHead(encoder), {"C": [0.1, 10.0]}, cv=2).fit(*labeled)
    assert search.best_score_ > 0.9


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one text", ["a"], "lone str"),
        ([], [], "no examples"),
        (["a", "b"], ["x", "x"], "one class"),
        (["a", "b"], ["x", 1], "Label 1 is a number"),
        (["a", "b"], ["x", None], "Label 1 is missing"),
        (["a", "b"], ["x"], "inconsistent"),
        (["a", 3], ["x", "y"], "Item 1 is a int"),
        (["a", "b"], [0.1, 0.7], "continuous"),
        ([[np.nan, 1.0], [0.0, 1.0]], ["x", "y"], "NaN"),
        ([[np.inf, 1.0], [0.0, 1.0]], ["x", "y"], "infinity"),
        ([[1.0], [0.0, 1.0]], ["x", "y"], "inhomogeneous"),
        ([[1.0, 0.0], [0.0, 1.0]], ["x", "y"], "2 wide, the encoder's 32"),
    ],
)
def test_bad_examples_give_one_clear_line(encoder: Any, texts: Any, labels: Any, message: str):
    with pytest.raises(InputError, match=message) as caught:
        LinearHead(encoder).fit(texts, labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [{"C": 0}, {"C": "x"}, {"tol": -1}, {"max_iter": 0}, {"encoder": "a name"}])
def test_bad_parameters_are_refused(bad: Any, labeled: tuple[list[str], list[str]]):
    with pytest.raises(InputError, match="expected"):
        LinearHead(**bad).fit(*labeled)


def test_texts_without_an_encoder_are_refused(labeled: tuple[list[str], list[str]]):
    with pytest.raises(InputError, match="no encoder"):
        LinearHead().fit(*labeled)


def test_another_width_at_prediction_is_refused(head: LinearHead):
    with pytest.raises(InputError, match="32 features"):
        head.predict(np.ones((1, 3)))


def test_another_encoder_at_prediction_is_refused(head: LinearHead):
    head.set_params(encoder=type(head.encoder)(fingerprint="other"))
    with pytest.raises(FingerprintError, match="words-32"):
        head.predict(["cat"])


def test_fitted_head_predicts_as_the_estimator(head: LinearHead, encoder: Any, labeled: tuple[list[str], list[str]]):
    vectors = encoder.encode(labeled[0])
    fitted = head.to_fitted()
    np.testing.assert_allclose(fitted.predict_proba(vectors), head.predict_proba(vectors), atol=1e-5)
    assert fitted.predict(vectors).tolist() == head.predict(vectors).tolist()


def test_two_classes_keep_their_probabilities(encoder: Any, labeled: tuple[list[str], list[str]]):
    texts, labels = labeled[0][:40], labeled[1][:40]
    head = LinearHead(encoder).fit(texts, labels)
    vectors = encoder.encode(texts)
    assert head.to_fitted().scorer.weights.shape == (2, 32)
    np.testing.assert_allclose(head.to_fitted().predict_proba(vectors), head.predict_proba(texts), atol=1e-5)


def test_top_names_the_most_probable_first(head: LinearHead, encoder: Any):
    ((first, second),) = head.to_fitted().top(encoder.encode(["the cat"]), 2)
    assert first.label == "animal"
    assert 1 >= first.probability > second.probability > 0


def test_softmax_stands_large_scores():
    head = FittedHead.linear(np.array([[1e4], [-1e4]], np.float32), np.zeros(2, np.float32), ("a", "b"), None)
    assert head.predict_proba([[3.0], [-3.0]]).tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    "bad", [[["a"] * 32], [[np.nan] * 32], [[1.0] * 31], [1.0] * 32, [[1.0], [1.0, 2.0]], [], None]
)
def test_fitted_head_refuses_bad_vectors(head: LinearHead, bad: Any):
    with pytest.raises(InputError):
        head.to_fitted().predict(bad)


def test_importing_and_serving_heads_needs_no_scikit_learn():
    code = (
        "import sys, numpy as np; from heads import FittedHead, load_head\n"
        "FittedHead.linear(np.eye(2), np.zeros(2), ('a', 'b'), None).predict_proba(np.eye(2))\n"
        "sys.exit(any(name in sys.modules for name in ('sklearn', 'torch', 'onnxruntime', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_temperature_is_the_one_that_fits_best_and_is_in_the_weights():
    """Labels drawn from known logits: multiplied by a quarter, they want to be multiplied by four again."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((4000, 5))
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    assert fit_temperature(logits / 4, targets)[0] == pytest.approx(4, rel=0.1)
    vectors = unit_rows(rng.standard_normal((300, 16)).astype(np.float32))
    labels = vectors[:, :4].argmax(axis=1)
    chosen = LinearHead(tol=1e-6).fit(vectors, labels)
    plain = LinearHead(C=chosen.C_, tol=1e-6).fit(vectors, labels)
    assert plain.temperature_ == 1
    np.testing.assert_allclose(chosen.coef_, chosen.temperature_ * plain.coef_, rtol=1e-2, atol=1e-2)


def test_few_labels_do_not_make_it_timid_or_bold():
    """Eight examples of each of forty classes: it is right about as often as it says."""
    rng = np.random.default_rng(1)
    centers = unit_rows(rng.standard_normal((40, 64)).astype(np.float32))
    train, test = np.repeat(np.arange(40), 8), np.repeat(np.arange(40), 50)

    def near(which: Any):
        return unit_rows((centers[which] + 0.3 * rng.standard_normal((len(which), 64))).astype(np.float32))

    head = LinearHead().fit(near(train), train)
    probabilities = head.predict_proba(near(test))
    right = (probabilities.argmax(axis=1) == test).mean()
    assert 0.5 < right < 0.98
    assert probabilities.max(axis=1).mean() == pytest.approx(right, abs=0.06)


def test_grid_search_over_texts_in_two_processes():
    texts = [f"{word} number {i}" for i in range(6) for word in ("card", "loan", "star", "moon")]
    labels = ["bank", "bank", "sky", "sky"] * 6
    search = GridSearchCV(LinearHead(OnnxEncoder("default", threads=1)), {"C": [1.0, 100.0]}, cv=2, n_jobs=2)
    assert search.fit(texts, labels).best_score_ > 0.9
