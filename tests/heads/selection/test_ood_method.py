"""What tells texts that are out of scope, chosen with and without examples of them."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from encoder_tools.errors import InputError
from encoder_tools.vectors import unit_rows
from heads import LinearHead
from heads.estimators.pipeline import Examples, fit_head
from heads.selection.ood_method import choose_ood_method

RNG = np.random.default_rng(2)
CENTRES = RNG.standard_normal((16, 12))


def in_scope(n: int):
    targets = RNG.integers(16, size=n)
    return unit_rows((CENTRES[targets] + 0.8 * RNG.standard_normal((n, 12))).astype(np.float32)), targets


def between(n: int):
    """Texts that are a little of two classes."""
    pairs = np.array([RNG.choice(16, 2, replace=False) for _ in range(n)])
    middle = CENTRES[pairs].mean(axis=1)
    return unit_rows((middle + 0.4 * RNG.standard_normal((n, 12))).astype(np.float32))


def auroc(head: Any, inside: Any, outside: Any) -> float:
    vectors = np.concatenate([inside, outside])
    scores = head.scope.ood_score(vectors, head.decision_function(vectors))
    return float(roc_auc_score(np.arange(len(vectors)) >= len(inside), scores))


def test_examples_out_of_scope_make_it_better():
    vectors, targets = in_scope(600)
    test, known, unknown = in_scope(400)[0], between(60), between(400)
    without = fit_head(LinearHead(), Examples(vectors, targets))
    with_some = fit_head(LinearHead(), Examples(vectors, targets), outside=known)
    assert auroc(with_some.head, test, unknown) > auroc(without.head, test, unknown) > 0.6
    accepted = [judged.out_of_scope for judged in with_some.head.predictions(test)].count(False) / len(test)
    assert 0.9 < accepted < 0.99
    assert set(with_some.scope_auroc) == {"doubt", "energy", "mahalanobis", "distance", "chosen", "sum"}


def test_copies_do_not_make_everything_else_strange():
    once, targets = in_scope(150)
    copies = np.repeat(once, 6, axis=0) + 1e-4 * RNG.standard_normal((900, 12)).astype(np.float32)
    head = fit_head(LinearHead(), Examples(unit_rows(copies), np.repeat(targets, 6))).head
    weights = head.scope.weights
    assert weights.max() < 1000


def test_two_classes_can_hide_none_and_still_have_a_threshold():
    vectors, targets = in_scope(400)
    made = fit_head(LinearHead(), Examples(vectors, targets % 2))
    assert made.scope_auroc == {}
    assert made.head.scope is not None
    assert made.head.scope.name == "distance"
    made = fit_head(LinearHead(), Examples(vectors, targets % 2), outside=between(30))
    assert made.scope_auroc["chosen"] > 0.5
    with pytest.raises(InputError, match="accepts"):
        choose_ood_method(vectors, targets, None, accepts=1.0, rng=np.random.RandomState(0))
