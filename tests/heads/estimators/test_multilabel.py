"""Any number of labels per text: figures by hand, thresholds, and what scikit-learn does with it."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from encoder_tools.errors import InputError
from heads import MultiLabelHead
from heads.estimators.multilabel import best_threshold

RNG = np.random.default_rng(5)
VECTORS = RNG.standard_normal((300, 6))
HITS = (VECTORS[:, :3] + 0.3 * RNG.standard_normal((300, 3)) > np.array([0.0, 0.5, 1.2])).astype(int)
NAMES = np.array(["common", "middling", "rare"])
LISTS = [tuple(NAMES[row == 1].tolist()) for row in HITS]


def test_labels_are_found_and_served_as_fitted():
    head = MultiLabelHead().fit(VECTORS[:200], LISTS[:200])
    assert head.classes_.tolist() == NAMES.tolist()
    assert head.score(VECTORS[200:], LISTS[200:]) > 0.8
    given = head.predict(VECTORS[200:])
    by_name = head.labels_of(VECTORS[200:])
    assert [set(labels) for labels in by_name] == [set(NAMES[row == 1].tolist()) for row in given]
    shares = head.predict_proba(VECTORS[200:])
    assert all(
        [shares[i, NAMES.tolist().index(label)] for label in labels]
        == sorted((shares[i, NAMES.tolist().index(label)] for label in labels), reverse=True)
        for i, labels in enumerate(by_name)
    )
    fitted = head.to_fitted(fingerprint="f" * 32)
    assert [judged.chosen for judged in fitted.predictions(VECTORS[200:].astype(np.float32))] == by_name


def test_thresholds_are_those_of_greatest_f1():
    shares, hits = np.array([0.9, 0.8, 0.7, 0.6, 0.1]), np.array([1, 0, 1, 1, 0])
    # F1 from the top: 2/4, 2/5, 4/6, 6/7, 6/8: the first four are chosen
    assert best_threshold(shares, hits) == pytest.approx((0.6 + 0.1) / 2)
    assert best_threshold(shares, np.zeros(5, int)) == 0.5
    tied = np.array([0.5, 0.5, 0.2])
    assert best_threshold(tied, np.array([1, 0, 0])) == pytest.approx(0.35)
    assert best_threshold(np.array([0.3]), np.array([1])) == pytest.approx(0.15)


def test_tuned_thresholds_find_rare_labels_that_a_half_would_miss():
    weak = VECTORS.copy()
    weak[:, 2] += 1.5 * RNG.standard_normal(300)
    head = MultiLabelHead().fit(weak[:200], HITS[:200])
    assert head.thresholds_[2] < 0.45
    shares = head.predict_proba(weak[200:])[:, 2]
    recall = [(shares[HITS[200:, 2] == 1] >= threshold).mean() for threshold in (0.5, head.thresholds_[2])]
    assert recall[1] > recall[0]


@pytest.mark.parametrize("of", [np.asarray, csr_matrix, lambda hits: hits.tolist(), lambda hits: hits.astype(bool)])
def test_all_forms_of_zeros_and_ones_are_the_same(of: Any):
    head = MultiLabelHead(C=1.0).fit(VECTORS, of(HITS))
    assert head.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(head.coef_, MultiLabelHead(C=1.0).fit(VECTORS, HITS).coef_)


def test_a_table_names_its_labels():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(HITS, columns=list(NAMES))
    head = MultiLabelHead(C=1.0).fit(VECTORS, table)
    assert head.classes_.tolist() == NAMES.tolist()
    assert head.score(VECTORS, table) == head.score(VECTORS, LISTS) > 0.8


def test_weights_count_as_repetition():
    twice = np.r_[0:300, 0:100]
    weights = np.r_[np.full(100, 2.0), np.ones(200)]
    repeated = MultiLabelHead(C=1.0).fit(VECTORS[twice], HITS[twice])
    weighed = MultiLabelHead(C=1.0).fit(VECTORS, HITS, sample_weight=weights)
    np.testing.assert_allclose(weighed.coef_, repeated.coef_, atol=1e-2)


def test_labels_that_always_or_never_occur_have_odds():
    hits = np.column_stack([np.ones(300, int), np.zeros(300, int), HITS[:, 0]])
    head = MultiLabelHead().fit(VECTORS, hits)
    shares = head.predict_proba(VECTORS)
    assert (shares[:, 0] > 0.99).all()
    assert (shares[:, 1] < 0.01).all()
    only = MultiLabelHead().fit(VECTORS, hits[:, :2])
    assert only.predict(VECTORS).tolist() == [[1, 0]] * 300
    assert head.predict(VECTORS)[:, :2].tolist() == [[1, 0]] * 300


def test_scikit_learns_tools_take_it():
    found = GridSearchCV(MultiLabelHead(), {"C": [0.01, 10.0]}, cv=3, scoring="f1_micro").fit(VECTORS, HITS)
    assert found.best_params_ == {"C": 10.0}
    shares = cross_val_predict(MultiLabelHead(C=1.0), VECTORS, HITS, method="predict_proba")
    assert shares.shape == (300, 3)
    assert make_pipeline(StandardScaler(), MultiLabelHead(C=1.0)).fit(VECTORS, HITS).score(VECTORS, HITS) > 0.8


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a"] * 300, "are a str"),
        ([("a", 1)] * 300, "mix strings and numbers"),
        ([()] * 300, "no label at all"),
        ([("a", None)] * 300, "hold a NoneType"),
        ([1] * 300, "a int"),
        (2 * HITS, "expected 0 and 1"),
        (HITS.astype(str), "expected 0 and 1"),
        (HITS[:200], "inconsistent|samples"),
    ],
)
def test_wrong_labels_are_refused(y: Any, message: str):
    with pytest.raises(InputError, match=message):
        MultiLabelHead().fit(VECTORS, y)


def test_what_was_not_fitted_is_refused():
    head = MultiLabelHead(C=1.0).fit(VECTORS, LISTS)
    with pytest.raises(InputError, match="'new' was in none"):
        head.score(VECTORS[:1], [("new",)])
    with pytest.raises(InputError, match="2 columns, expected one for each of 3"):
        head.score(VECTORS, HITS[:, :2])
    for wrong in (0, -1.0, "x", True, np.nan):
        with pytest.raises(InputError, match="C is"):
            MultiLabelHead(C=wrong).fit(VECTORS, HITS)
