"""Choice of the out-of-distribution score: candidates compared on classes that were hidden, or on examples given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from encoder_tools.errors import InputError
from encoder_tools.vectors import unit_rows
from heads.selection.folds import within_class
from heads.serving.ood import Distance, Energy, Mahalanobis, MaxProbability, OodMethod, Scope

Scores = Callable[[NDArray[Any]], NDArray[np.float32]]
FitScores = Callable[[NDArray[Any], NDArray[np.intp]], Scores]
"""From vectors and class numbers to what gives scores of other vectors."""

_ROUNDS = 3
_HIDDEN = 4  # one class in so many is hidden in a round
_HELD = 3  # one example in so many is held out in a round
_FEWEST_CLASSES = 4
_MOST_EXAMPLES = 5000
_SHRINKAGE = 0.5
_PARTS = 5  # examples are held out by fifths, to set the threshold
_LEAST_LOSS = 0.002  # of AUROC, that a sum of parts must lose by: it is steadier than the best of several
_LEAST_SPREAD = 0.02  # of a part on texts in scope: of near-copies it is next to none, and nothing else would count
_FEWEST_HELD = 10  # texts that a threshold can be set by


class Scoped(NamedTuple):
    """A scope and what it was chosen by.

    :ivar scope: None where too few examples could be held out to set a threshold by: what a head was fitted on looks
        nearer than any other text, and by it all others would be out of scope.
    :ivar auroc: of each part, of their "sum", and of the "chosen" one, on texts that were held out: the chance that a
        text out of scope has a higher OOD score than one in scope. Empty where there were too few classes to hide any.
    """

    scope: Scope | None
    auroc: dict[str, float]


def choose_ood_method(
    vectors: NDArray[Any],
    targets: NDArray[np.intp],
    fit_scores: FitScores | None,
    *,
    outside: NDArray[Any] | None = None,
    accepts: float = 0.95,
    rng: np.random.RandomState,
) -> Scoped:
    """The ood_score, or sum of several, that tells best what a head was not fitted on.

    Without examples that are out of scope, classes play them: in each of three rounds a quarter of the classes is
    hidden. With examples, there are three more, each with a third of them. Logistic regression weighs the parts;
    whether their sum is better than the best part is found on the round that is left out.

    :param vectors: that the head is fitted on, shape (n, dim).
    :param targets: their class numbers, shape (n,).
    :param fit_scores: fits the head's scores; None where they say nothing of ood_score.
    :param outside: vectors of texts out of scope, shape (m, dim).
    :param accepts: share of the texts in scope that should be accepted.
    :raises InputError: if ``accepts`` is not between 0 and 1.
    """
    if not 0 < accepts < 1:
        raise InputError(f"accepts is {accepts!r}, expected a share between 0 and 1.")
    held = _held_in(vectors, targets, fit_scores, rng)
    if len(held) < _FEWEST_HELD:
        return Scoped(None, {})
    keep = rng.permutation(len(targets))[:_MOST_EXAMPLES]
    some, their = vectors[keep], targets[keep]
    rounds = list(_rounds(some, their, fit_scores, None, rng))
    if outside is not None:
        rounds += _rounds(some, their, fit_scores, outside, rng)
    names = _names(fit_scores)
    auroc = (
        {name: _mean_auroc(rounds, np.eye(len(names))[number]) for number, name in enumerate(names)} if rounds else {}
    )
    weights = np.eye(len(names))[names.index("distance")]
    if rounds:
        weights = np.eye(len(names))[int(np.argmax([auroc[name] for name in names]))]
        auroc["chosen"] = max(auroc.values())
        total = _sum_of_parts(rounds)
        auroc["sum"] = float(np.mean([_auroc(r, w) for r, w in zip(rounds, total.left_out, strict=True)]))
        if auroc["sum"] > auroc["chosen"] - _LEAST_LOSS:
            weights, auroc["chosen"] = total.weights, auroc["sum"]
    scale = np.maximum(held.std(axis=0), _LEAST_SPREAD)
    used = np.flatnonzero(weights)
    final = weights[used] / scale[used]
    centers = held.mean(axis=0)[used]
    threshold = float(np.quantile((held[:, used] - centers) @ final, accepts))
    parts = _fit_parts(vectors, targets, fit_scores is not None)
    return Scoped(Scope(tuple(parts[p] for p in used), final, centers, threshold, accepts), auroc)


class _Round(NamedTuple):
    """Strangenesses (n, n_parts) of texts, brought to the scale of those in scope, and which are out of scope."""

    measures: NDArray[Any]
    out: NDArray[np.bool_]


class _Sum(NamedTuple):
    weights: NDArray[Any]
    left_out: list[NDArray[Any]]  # for each round those that the other rounds give


def _rounds(
    vectors: NDArray[Any],
    targets: NDArray[np.intp],
    fit_scores: FitScores | None,
    outside: NDArray[Any] | None,
    rng: np.random.RandomState,
) -> Iterator[_Round]:
    classes = np.unique(targets)
    if outside is None and len(classes) < _FEWEST_CLASSES:
        return
    share = None if outside is None else np.arange(len(outside)) % _ROUNDS
    for number in range(_ROUNDS):
        hidden = np.zeros(len(targets), dtype=bool)
        if outside is None:
            hidden = np.isin(targets, rng.permutation(classes)[: max(1, len(classes) // _HIDDEN)])
        held = ~hidden & (within_class(targets, rng) % _HELD == 0)
        learned = ~hidden & ~held
        if len(np.unique(targets[learned])) < 2 or not held.any():
            continue
        unknown = vectors[hidden] if outside is None or share is None else outside[share == number]
        if not len(unknown):
            continue
        tested = np.concatenate([vectors[held], unknown])
        measures = _measure(vectors[learned], targets[learned], tested, fit_scores)
        inside = measures[: held.sum()]
        scaled = (measures - inside.mean(axis=0)) / np.maximum(inside.std(axis=0), _LEAST_SPREAD)
        yield _Round(scaled, np.arange(len(tested)) >= held.sum())


def _held_in(
    vectors: NDArray[Any], targets: NDArray[np.intp], fit_scores: FitScores | None, rng: np.random.RandomState
) -> NDArray[Any]:
    """Strangenesses (n, n_parts) of texts in scope that were held out, all classes being known.

    A fifth at a time, of all examples: the fewer are left, the higher the others score. Of many one fifth is enough.
    """
    rank = within_class(targets, rng)
    alone = np.bincount(targets)[targets] == 1  # without it its class would not be known
    rounds = []
    for number in range(_PARTS if len(targets) * (_PARTS - 1) <= 2 * _MOST_EXAMPLES else 1):
        held = (rank % _PARTS == number) & ~alone
        if held.any() and len(np.unique(targets[~held])) > 1:
            rounds.append(_measure(vectors[~held], targets[~held], vectors[held], fit_scores))
    return np.concatenate(rounds) if rounds else np.zeros((0, len(_names(fit_scores))))


def _measure(
    vectors: NDArray[Any], targets: NDArray[np.intp], tested: NDArray[Any], fit_scores: FitScores | None
) -> NDArray[Any]:
    _, numbers = np.unique(targets, return_inverse=True)
    scores = np.zeros((len(tested), 1), np.float32) if fit_scores is None else fit_scores(vectors, numbers)(tested)
    parts = _fit_parts(vectors, numbers, fit_scores is not None)
    return np.column_stack([part.measure(tested.astype(np.float32), scores) for part in parts])


def _names(fit_scores: FitScores | None) -> list[str]:
    by_vectors = [Mahalanobis.kind, Distance.kind]
    return by_vectors if fit_scores is None else [MaxProbability.kind, Energy.kind, *by_vectors]


def _fit_parts(vectors: NDArray[Any], targets: NDArray[np.intp], with_scores: bool) -> list[OodMethod]:
    by_vectors: list[OodMethod] = [fit_mahalanobis(vectors, targets), Distance(unit_rows(vectors.astype(np.float32)))]
    return [MaxProbability(), Energy(), *by_vectors] if with_scores else by_vectors


def fit_mahalanobis(vectors: NDArray[Any], targets: NDArray[np.intp], shrinkage: float = _SHRINKAGE) -> Mahalanobis:
    """Class means and the classes' shared covariance, drawn towards a sphere by ``shrinkage``."""
    x = vectors.astype(np.float64)
    sizes = np.bincount(targets)
    means = np.zeros((len(sizes), x.shape[1]))
    np.add.at(means, targets, x)
    means /= sizes[:, None]
    rest = x - means[targets]
    covariance = rest.T @ rest / len(x)
    level = max(np.trace(covariance) / len(covariance), 1e-8)
    values, axes = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance)))
    whitening = axes / np.sqrt(np.maximum(values, 1e-3 * level * shrinkage))
    return Mahalanobis((means @ whitening).astype(np.float32), whitening.astype(np.float32))


def _sum_of_parts(rounds: list[_Round]) -> _Sum:
    left_out = [_weights([r for j, r in enumerate(rounds) if j != i] or rounds) for i in range(len(rounds))]
    return _Sum(_weights(rounds), left_out)


def _weights(rounds: list[_Round]) -> NDArray[Any]:
    """By logistic regression, none below zero: no part may lower the score of a text that is out of distribution."""
    measures = np.concatenate([r.measures for r in rounds])
    out = np.concatenate([r.out for r in rounds])
    # In every round the texts in scope count as much as those out of it: a class that was hidden has many, the examples
    # given are few.
    shares = np.concatenate([np.where(r.out, 0.5 / r.out.sum(), 0.5 / (~r.out).sum()) for r in rounds])
    model = LogisticRegression(C=1.0, max_iter=500).fit(measures, out, len(out) / len(rounds) * shares)
    weights: NDArray[Any] = np.maximum(model.coef_[0], 0)
    return weights if weights.any() else np.ones(len(weights))


def _auroc(round_: _Round, weights: NDArray[Any]) -> float:
    return float(roc_auc_score(round_.out, round_.measures @ weights))


def _mean_auroc(rounds: list[_Round], weights: NDArray[Any]) -> float:
    return float(np.mean([_auroc(found, weights) for found in rounds]))
