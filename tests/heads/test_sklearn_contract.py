"""scikit-learn's own battery, on vectors; no check is expected to fail."""

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from heads import LinearHead


@parametrize_with_checks([LinearHead(), LinearHead(C=1.0)])
def test_keeps_scikit_learns_contract(estimator: Any, check: Any):
    check(estimator)
