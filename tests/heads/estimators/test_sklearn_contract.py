"""scikit-learn's own battery, on vectors."""

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from encoder_tools.errors import InputError
from heads import (
    HierarchicalHead,
    LinearHead,
    MLPHead,
    MultiLabelHead,
    NeighborHead,
    PrototypeHead,
    RegressionHead,
    ZeroShotHead,
)

FITS_ON_ITS_OWN_DATA = """
    check_all_zero_sample_weights_error check_complex_data check_dict_unchanged check_dont_overwrite_parameters
    check_dtype_object check_estimator_sparse_array check_estimator_sparse_matrix check_estimators_dtypes
    check_estimators_empty_data_messages check_estimators_fit_returns_self check_estimators_nan_inf
    check_estimators_overwrite_params check_estimators_pickle check_f_contiguous_array_estimator
    check_fit2d_1feature check_fit2d_1sample check_fit2d_predict1d check_fit_check_is_fitted check_fit_idempotent
    check_fit_score_takes_y check_methods_sample_order_invariance check_methods_subset_invariance
    check_n_features_in check_n_features_in_after_fitting check_pipeline_consistency
    check_positive_only_tag_during_fit check_readonly_memmap_input check_sample_weight_equivalence_on_dense_data
    check_sample_weights_list check_sample_weights_not_an_array check_sample_weights_not_overwritten
    check_sample_weights_pandas_series check_sample_weights_shape
""".split()
MULTILABEL = """
    check_estimator_sparse_tag
""".split()
ZERO_SHOT = """
    check_class_weight_classifiers check_classifier_data_not_an_array check_classifiers_classes
    check_classifiers_one_label check_classifiers_one_label_sample_weights check_classifiers_regression_target
    check_classifiers_train check_decision_proba_consistency check_requires_y_none check_supervised_y_2d
""".split()
REASONS = {
    MultiLabelHead: dict.fromkeys(FITS_ON_ITS_OWN_DATA + MULTILABEL, "the battery gives one label per row, not a set"),
    ZeroShotHead: dict.fromkeys(FITS_ON_ITS_OWN_DATA + ZERO_SHOT, "the battery gives no descriptions of its labels"),
}
"""Checks whose data these heads are not for; what they check is checked below on data that they are for. The list is
exact: a check that passes where it is listed fails."""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of MLPHead on the battery's odd data
@parametrize_with_checks(
    [
        LinearHead(),
        LinearHead(C=1.0),
        PrototypeHead(),
        NeighborHead(),
        MLPHead(hidden=32),
        RegressionHead(),
        HierarchicalHead(),
        MultiLabelHead(),
        ZeroShotHead(),
    ],
    expected_failed_checks=lambda estimator: REASONS.get(type(estimator), {}),
)
def test_keeps_scikit_learns_contract(estimator: Any, check: Any):
    check(estimator)


def test_a_table_of_texts_is_refused_with_the_way_out():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": ["a", "b"]})
    for texts in (table, table.to_numpy(), table[["text"]].to_numpy(dtype=str)):
        with pytest.raises(InputError, match=r"table of texts of shape \(2, 1\)"):
            LinearHead().fit(texts, ["x", "y"])


class Columns:
    """An encoder whose texts are the numbers of the columns that are one."""

    dim, fingerprint, space = 4, "columns", None

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray[Any, Any]:
        return np.eye(4, dtype=np.float32)[[int(text) for text in texts]]

    encode_query = encode_document = encode


RNG = np.random.default_rng(0)
ROWS = np.repeat(np.arange(4), 8)
VECTORS = (np.eye(4)[ROWS] + 0.1 * RNG.normal(size=(32, 4))).astype(np.float32)
SETS = [[("low", "high")[row // 2], ("even", "odd")[row % 2]] for row in ROWS]
NAMES = np.array(["zero", "one", "two", "three"])[ROWS]
DESCRIPTIONS = {"zero": "0", "one": "1", "two": "2", "three": "3"}
SPECIAL = [(MultiLabelHead(C=1.0), SETS), (ZeroShotHead(Columns(), DESCRIPTIONS, C=1.0), NAMES)]


@pytest.mark.parametrize(("head", "targets"), SPECIAL, ids=["MultiLabelHead", "ZeroShotHead"])
def test_the_contract_on_data_that_a_head_is_for(head: Any, targets: Any):
    before, vectors = head.get_params(), VECTORS.copy()
    with pytest.raises(NotFittedError):
        clone(head).predict(VECTORS)
    fitted = clone(head)
    assert fitted.fit(VECTORS, targets) is fitted
    assert {name: str(value) for name, value in fitted.get_params().items()} == {n: str(v) for n, v in before.items()}
    np.testing.assert_array_equal(VECTORS, vectors)
    assert fitted.n_features_in_ == 4
    assert fitted.score(VECTORS, targets) > 0.9
    expected = fitted.predict_proba(VECTORS)
    np.testing.assert_allclose(clone(head).fit(VECTORS, targets).predict_proba(VECTORS), expected, atol=1e-6)
    np.testing.assert_allclose(fitted.fit(VECTORS, targets).predict_proba(VECTORS), expected, atol=1e-6)
    np.testing.assert_allclose(fitted.predict_proba(VECTORS[::-1])[::-1], expected, atol=1e-6)
    np.testing.assert_allclose(
        np.concatenate([fitted.predict_proba(VECTORS[n : n + 1]) for n in range(32)]), expected, atol=1e-6
    )
    np.testing.assert_allclose(pickle.loads(pickle.dumps(fitted)).predict_proba(VECTORS), expected)  # noqa: S301
    for bad in (VECTORS[:, :3], np.full((2, 4), np.nan, dtype=np.float32), VECTORS[0]):
        with pytest.raises(ValueError, match=r"\S"):
            fitted.predict(bad)
    with pytest.raises(ValueError, match=r"\S"):
        clone(head).fit(np.full_like(VECTORS, np.inf), targets)


@pytest.mark.parametrize(("head", "targets"), SPECIAL, ids=["MultiLabelHead", "ZeroShotHead"])
def test_a_weight_of_two_is_the_example_twice(head: Any, targets: Any):
    weights = np.where(np.arange(32) % 3 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(32), weights.astype(int))
    weighted = clone(head).fit(VECTORS, targets, sample_weight=weights).predict_proba(VECTORS)
    repeated = clone(head).fit(VECTORS[twice], [targets[row] for row in twice]).predict_proba(VECTORS)
    np.testing.assert_allclose(weighted, repeated, atol=1e-3)
