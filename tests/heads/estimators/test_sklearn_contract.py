"""scikit-learn's own battery, on vectors."""

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from encoder_tools.errors import InputError
from heads import HierarchicalHead, LinearHead, MLPHead, NeighborHead, PrototypeHead, RegressionHead

CANNOT_HOLD: dict[str, dict[str, str]] = {}


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
    ],
    expected_failed_checks=lambda estimator: CANNOT_HOLD.get(type(estimator).__name__, {}),
)
def test_keeps_scikit_learns_contract(estimator: Any, check: Any):
    check(estimator)


def test_a_table_of_texts_is_refused_with_the_way_out():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": ["a", "b"]})
    for texts in (table, table.to_numpy(), table[["text"]].to_numpy(dtype=str)):
        with pytest.raises(InputError, match=r"table of texts of shape \(2, 1\)"):
            LinearHead().fit(texts, ["x", "y"])
