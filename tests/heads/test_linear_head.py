import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from encoder_tools.errors import FingerprintError, InputError
from heads import FittedHead, LinearHead


def test_texts_are_classified(head: LinearHead):
    assert head.predict(["the cat", "the oslo", "the pink"]).tolist() == ["animal", "place", "colour"]


def test_texts_and_their_vectors_give_one_head(head: LinearHead, encoder: Any, labelled: tuple[list[str], list[str]]):
    texts, labels = labelled
    from_vectors = LinearHead().fit(encoder.encode(texts), labels)
    np.testing.assert_allclose(from_vectors.predict_proba(encoder.encode(texts)), head.predict_proba(texts), atol=1e-6)
    assert (head.fingerprint_, from_vectors.fingerprint_) == ("words-32", None)


def test_equals_scikit_learns_logistic_regression(encoder: Any, labelled: tuple[list[str], list[str]]):
    vectors = encoder.encode(labelled[0]).astype(np.float64)
    ours = LinearHead(C=10, tol=1e-7).fit(vectors, labelled[1])
    theirs = LogisticRegression(C=10, tol=1e-10, max_iter=1000).fit(vectors, labelled[1])
    np.testing.assert_allclose(ours.predict_proba(vectors), theirs.predict_proba(vectors), atol=1e-4)


def test_noise_is_regularised_more_than_signal():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((400, 20)) / np.sqrt(20)
    signal = LinearHead().fit(vectors, vectors[:, 0] > 0)
    noise = LinearHead().fit(vectors, rng.random(400) > 0.5)
    assert noise.C_ < 1 <= 30 <= signal.C_


def test_chosen_strength_does_not_depend_on_the_vectors_scale(encoder: Any, labelled: tuple[list[str], list[str]]):
    vectors = encoder.encode(labelled[0])
    small, large = (LinearHead().fit(vectors * scale, labelled[1]) for scale in (1, 100))
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


def test_clones_share_an_encoder_that_cannot_be_copied(encoder: Any, labelled: tuple[list[str], list[str]]):
    assert clone(LinearHead(encoder, C=2.0)).encoder is encoder
    search = GridSearchCV(LinearHead(encoder), {"C": [0.1, 10.0]}, cv=2).fit(*labelled)
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
def test_bad_parameters_are_refused(bad: Any, labelled: tuple[list[str], list[str]]):
    with pytest.raises(InputError, match="expected"):
        LinearHead(**bad).fit(*labelled)


def test_texts_without_an_encoder_are_refused(labelled: tuple[list[str], list[str]]):
    with pytest.raises(InputError, match="no encoder"):
        LinearHead().fit(*labelled)


def test_another_width_at_prediction_is_refused(head: LinearHead):
    with pytest.raises(InputError, match="32 features"):
        head.predict(np.ones((1, 3)))


def test_another_encoder_at_prediction_is_refused(head: LinearHead):
    head.set_params(encoder=type(head.encoder)(fingerprint="other"))
    with pytest.raises(FingerprintError, match="words-32"):
        head.predict(["cat"])


def test_fitted_head_predicts_as_the_estimator(head: LinearHead, encoder: Any, labelled: tuple[list[str], list[str]]):
    vectors = encoder.encode(labelled[0])
    fitted = head.to_fitted()
    np.testing.assert_allclose(fitted.predict_proba(vectors), head.predict_proba(vectors), atol=1e-5)
    assert fitted.predict(vectors).tolist() == head.predict(vectors).tolist()


def test_two_classes_keep_their_probabilities(encoder: Any, labelled: tuple[list[str], list[str]]):
    texts, labels = labelled[0][:40], labelled[1][:40]
    head = LinearHead(encoder).fit(texts, labels)
    vectors = encoder.encode(texts)
    assert head.to_fitted().weights.shape == (2, 32)
    np.testing.assert_allclose(head.to_fitted().predict_proba(vectors), head.predict_proba(texts), atol=1e-5)


def test_top_names_the_most_probable_first(head: LinearHead, encoder: Any):
    ((first, second),) = head.to_fitted().top(encoder.encode(["the cat"]), 2)
    assert first.label == "animal"
    assert 1 >= first.probability > second.probability > 0


def test_softmax_stands_large_scores():
    head = FittedHead(np.array([[1e4], [-1e4]], np.float32), np.zeros(2, np.float32), ("a", "b"), None)
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
        "FittedHead(np.eye(2), np.zeros(2), ('a', 'b'), None).predict_proba(np.eye(2))\n"
        "sys.exit(any(name in sys.modules for name in ('sklearn', 'torch', 'onnxruntime', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
