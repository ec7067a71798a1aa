"""scikit-learn's own battery, on vectors."""

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from heads import HierarchicalHead, LinearHead, MLPHead, NeighbourHead, PrototypeHead, RegressionHead

CANNOT_HOLD: dict[str, dict[str, str]] = {}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of MLPHead on the battery's odd data
@parametrize_with_checks(
    [
        LinearHead(),
        LinearHead(C=1.0),
        PrototypeHead(),
        NeighbourHead(),
        MLPHead(hidden=32),
        RegressionHead(),
        HierarchicalHead(),
    ],
    expected_failed_checks=lambda estimator: CANNOT_HOLD.get(type(estimator).__name__, {}),
)
def test_keeps_scikit_learns_contract(estimator: Any, check: Any):
    check(estimator)
