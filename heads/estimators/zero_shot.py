"""Zero-shot labels: from names or descriptions alone, refined by examples if there are any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.utils import check_random_state

from encoder_tools.errors import InputError
from encoder_tools.vectors import unit_rows
from heads.estimators.linear import is_positive
from heads.estimators.scorer_head import ScoredHead
from heads.selection.regularization import check_size, few_threads, fit_temperature
from heads.serving.arrays import log_sum_exp, softmax
from heads.serving.fitted_head import Label
from heads.serving.scorers import Linear
from heads.validation import check_label_kinds, checked_encoder

_JOINTS = re.compile(r"[_\-./:]+")
_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STRENGTHS = (1.0, 10.0, 100.0)
_FOLDS = 3
_PRIOR_TEMPERATURE = 20.0
_PRIOR_EXAMPLES = 20.0  # as many examples as the prior of the temperature counts for


class ZeroShotHead(ScoredHead):
    """Logistic regression whose weights are drawn to the vectors of the labels' descriptions, not to zero.

    Without examples it is the cosine with the descriptions; with many the descriptions matter no more. In between it is
    the most probable head under a normal prior around the descriptions (maximum a posteriori).

    :param encoder: a :class:`~encoder_tools.protocols.TextEncoder`; clones share it.
    :param descriptions: a description for each label, or a list of labels, which are then described by their names.
    :param template: what a description is put into, for instance "The customer asks about {}."
    :param C: how far examples may draw the weights away; None chooses it on held-out examples.
    :param class_weight: None, "balanced", or a weight for each class, as in scikit-learn.
    :param random_state: seed of the folds.

    Learnt: ``classes_``, ``scorer_``, ``C_``, ``temperature_``, ``n_features_in_``, ``fingerprint_``, ``space_``.

    Example:
        >>> from encoder_tools import OnnxEncoder
        >>> from heads import ZeroShotHead
        >>> head = ZeroShotHead(OnnxEncoder(), {"money": "banks and prices", "sport": "football and other games"}).fit()
        >>> str(head.predict(["my bank account"])[0])
        'money'
    """

    def __init__(
        self,
        encoder: Any = None,
        descriptions: Any = None,
        *,
        template: str = "{}",
        C: float | None = None,  # noqa: N803  scikit-learn's name
        class_weight: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.encoder = encoder
        self.descriptions = descriptions
        self.template = template
        self.C = C
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any = None, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn from the descriptions, and from texts (n,) or vectors (n, dim) with labels if there are any.

        Labels without an example are known by their descriptions; examples of a label without description are learned
        from zero.

        :raises InputError: for wrong input, or fewer than two labels.
        """
        if X is not None and len(X):
            return super().fit(X, y, sample_weight)
        self._check_parameters()
        self.classes_ = self._described()
        vectors = self._descriptions_of(self.classes_.tolist())
        self._training_vectors(vectors, self.classes_)
        self.C_, self.temperature_ = 0.0, _PRIOR_TEMPERATURE
        weights = np.float32(self.temperature_) * vectors
        self.scorer_ = Linear(weights, np.zeros(len(weights), dtype=np.float32))
        return self

    def _check_parameters(self) -> None:
        checked_encoder(self.encoder)
        if self.C is not None and not is_positive(self.C):
            raise InputError(f"C is {self.C!r}, expected a positive number, or None to choose it.")
        if not isinstance(self.template, str) or "{}" not in self.template:
            raise InputError(f"template is {self.template!r}, expected a text with {{}} in it.")
        if len(self._described()) < 2:
            raise InputError("Found fewer than two descriptions, expected labels to tell apart.")

    def _described(self) -> NDArray[Any]:
        descriptions = self.descriptions
        if not isinstance(descriptions, Mapping | list | tuple):
            raise InputError(
                f"descriptions is a {type(descriptions).__name__}, expected a dict from label to text, or a list of "
                "labels."
            )
        check_label_kinds(list(descriptions))
        for label, text in (
            descriptions.items() if isinstance(descriptions, Mapping) else zip(descriptions, descriptions, strict=True)
        ):
            if not str(text).strip():
                raise InputError(f"The description of {label!r} is empty, expected a text. Describe it or drop it.")
        return np.unique(np.array(list(descriptions)))

    def _descriptions_of(self, labels: list[Label]) -> NDArray[np.float32]:
        """Unit vectors (n_labels, dim); zeros for a label without description."""
        given = (
            self.descriptions if isinstance(self.descriptions, Mapping) else {name: name for name in self.descriptions}
        )
        texts = {label: self.template.replace("{}", readable(given[label])) for label in labels if label in given}
        vectors = np.zeros((len(labels), self.encoder.dim), dtype=np.float32)
        if texts:
            encoded = unit_rows(self.encoder.encode(list(texts.values())))
            vectors[[labels.index(label) for label in texts]] = encoded
        return vectors

    def _learn(self, vectors: NDArray[Any], targets: NDArray[np.intp], weights: NDArray[Any] | None) -> None:
        seen = self.classes_
        described = self._described()
        if _are_positions(seen, described):
            self._learn_around(vectors, targets, weights, self._descriptions_of(described.tolist()))
            return
        if (seen.dtype.kind == "U") != (described.dtype.kind == "U"):
            raise InputError(
                f"Labels are of type {seen.dtype}, descriptions are of {described.dtype}: expected one kind. Take "
                "labels as texts."
            )
        self.classes_ = np.unique(np.concatenate([seen, described]))
        targets = np.searchsorted(self.classes_, seen)[targets]
        self._learn_around(vectors, targets, weights, self._descriptions_of(self.classes_.tolist()))

    def _learn_around(
        self,
        vectors: NDArray[Any],
        targets: NDArray[np.intp],
        weights: NDArray[Any] | None,
        prior: NDArray[np.float32],
    ) -> None:
        check_size(len(vectors), len(self.classes_))
        shares = np.ones(len(targets)) if weights is None else weights
        x = vectors.astype(np.float64)
        with few_threads(x, len(self.classes_)):
            start = prior.astype(np.float64) * _blended(x @ prior.T, targets, shares)
            rng = check_random_state(self.random_state)
            self.C_, self.temperature_ = self._chosen(x, targets, shares, start, rng)
            coef, bias = fit_around(start, x, targets, shares, self.C_)
        self.scorer_ = Linear(self.temperature_ * coef, self.temperature_ * bias)

    def _chosen(
        self, x: NDArray[Any], targets: NDArray[np.intp], shares: NDArray[Any], start: NDArray[Any], rng: Any
    ) -> tuple[float, float]:
        """C of the least held-out log-loss, and the temperature there."""
        fold = rng.permutation(len(targets)) % _FOLDS
        best = (np.inf, _STRENGTHS[0] if self.C is None else self.C, 1.0)
        for strength in _STRENGTHS if self.C is None else (self.C,):
            held_scores = np.zeros((len(targets), len(start)))
            for number in range(_FOLDS):
                held = fold == number
                if held.all():
                    return float(best[1]), 1.0
                coef, bias = fit_around(start, x[~held], targets[~held], shares[~held], strength)
                held_scores[held] = x[held] @ coef.T + bias
            temperature, loss = fit_temperature(held_scores, targets, shares)
            best = min(best, (loss, strength, temperature))
        trust = len(targets) / (len(targets) + _PRIOR_EXAMPLES)  # few examples say little of a temperature
        return float(best[1]), float(best[2] ** trust)


def fit_around(
    start: NDArray[Any], x: NDArray[Any], targets: NDArray[np.intp], shares: NDArray[Any], strength: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights (n_classes, dim) and biases that minimize ``strength * log-loss + |weights - start|^2 / 2``.

    scikit-learn's solvers draw weights to zero and take no offset, hence our own few lines.
    """
    classes, dim = start.shape
    rows = np.arange(len(targets))
    offset = x @ start.T

    def loss(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        moved = flat.reshape(classes, dim + 1)
        scores = offset + x @ moved[:, :dim].T + moved[:, dim]
        value = strength * float(shares @ (log_sum_exp(scores) - scores[rows, targets])) + 0.5 * float(flat @ flat)
        slope = softmax(scores)
        slope[rows, targets] -= 1
        slope *= strength * shares[:, None]
        return value, (np.column_stack([slope.T @ x, slope.sum(axis=0)]) + moved).ravel()

    options = {"maxiter": 200, "ftol": 1e-7}
    weights = minimize(loss, np.zeros(classes * (dim + 1)), jac=True, method="L-BFGS-B", options=options).x
    moved = weights.reshape(classes, dim + 1)
    return start + moved[:, :dim], moved[:, dim]


def _are_positions(seen: NDArray[Any], described: NDArray[Any]) -> bool:
    """Whether labels are the numbers of the described ones in their order, as VotingClassifier passes them on."""
    numbers = seen.dtype.kind in "iu" and described.dtype.kind == "U"
    return bool(numbers and len(seen) == len(described) and (seen == np.arange(len(seen))).all())


def _blended(cosines: NDArray[Any], targets: NDArray[np.intp], shares: NDArray[Any]) -> float:
    """Temperature of the cosines with the descriptions: the examples' own, drawn to the usual while they are few."""
    temperature, _ = fit_temperature(cosines, targets, shares)
    trust = shares.sum() / (shares.sum() + _PRIOR_EXAMPLES)
    return float(np.exp(trust * np.log(temperature) + (1 - trust) * np.log(_PRIOR_TEMPERATURE)))


def readable(name: object) -> str:
    """A name as words: ``AddToPlaylist``, ``add_to_playlist`` and ``add-to-playlist`` are "Add To Playlist" and so on.

    What has spaces is a description and stays as it is.
    """
    text = str(name)
    if any(character.isspace() for character in text):
        return text.replace("_", " ").replace("-", " ")
    return " ".join(_CASE.sub(" ", _JOINTS.sub(" ", text)).split()) or text
