"""A file in, a head out: what ``head fit`` does, for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from encoder_tools.errors import InputError
from encoder_tools.model.embedding_space import space_of
from encoder_tools.protocols import TextEncoder
from heads.data.columns import TEXT_AND_LABEL, Layout
from heads.data.labelled import Labelled, Say, as_labels, as_numbers, leaked, read_labels, read_texts
from heads.estimators.base import ClassifierHead
from heads.estimators.hierarchical import HierarchicalHead
from heads.estimators.linear import LONG_FIT, LinearHead
from heads.estimators.mlp import MLPHead
from heads.estimators.multilabel import MultiLabelHead
from heads.estimators.pipeline import NO_PROMISE, Examples, Promise, make_head
from heads.estimators.prototype import NeighbourHead, PrototypeHead
from heads.estimators.regression import RegressionHead
from heads.estimators.zero_shot import ZeroShotHead
from heads.serving.fitted_head import FittedHead

CLASSIFIERS: dict[str, type[ClassifierHead]] = {
    "linear": LinearHead,
    "mlp": MLPHead,
    "prototype": PrototypeHead,
    "knn": NeighbourHead,
    "hierarchical": HierarchicalHead,
}
"""Kinds that give one label of several."""
_OTHERS = ("multi-label", "regression")
KINDS = (*CLASSIFIERS, "zero-shot", *_OTHERS)
_FEWEST_WORTH = 4
_MISSING = frozenset({"na", "n/a", "nan", "none", "null", "nil", "-", "?", "unknown", "#n/a", "<na>"})


@dataclass(frozen=True)
class FitJob:
    """What to fit to what.

    :ivar train: file of labelled texts.
    :ivar out: folder that the head will be written to; rows that cannot be used are put beside it.
    :ivar held_out: file of examples for the promise; None takes a share of ``train``.
    :ivar outside: file of texts that are out of scope.
    :ivar outside_label: label of such texts in ``train``.
    :ivar descriptions: of the labels, for the kind "zero-shot"; None takes their names.
    :ivar temperature: of the scores, where the encoder was trained on the examples itself; see :func:`make_head`.
    """

    train: Path
    out: Path
    layout: Layout = TEXT_AND_LABEL
    kind: str = "linear"
    split: str = "train"
    promise: Promise = NO_PROMISE
    held_out: Path | None = None
    outside: Path | None = None
    outside_label: str | None = None
    scope: bool = True
    temperature: float | None = None
    descriptions: dict[str, str] | None = None


def fit_file(encoder: TextEncoder, job: FitJob, say: Say) -> FittedHead:
    """The head of a file; what is odd about the examples is said.

    :raises InputError: if the kind is not known, the promise cannot be kept, or the examples cannot be fitted.
    """
    _check(job)
    layout = replace(job.layout, many=job.kind == "multi-label")
    train = read_labels(job.train, job.out, layout, job.split, say)
    if job.kind in _OTHERS:
        return _other_kind(encoder, train, job.kind, say)
    train, strange = _set_apart(train, job)
    _refuse_one_label(train, job.train)
    _say_what_is_odd(train.labels, say)
    _say_what_is_rare(train, say)
    _say_what_is_large(train, job.kind, say)
    if job.outside is not None:
        strange += read_texts(job.outside, job.out, layout, job.split, say)
    held = None
    if job.held_out is not None:
        others = read_labels(job.held_out, job.out, layout, job.split, say)
        _say_what_leaked(train.texts, others.texts, job.held_out, say)
        held = Examples(encoder.encode(others.texts), as_labels(others.labels))
    say(f"encoding {len(train.texts) + len(strange)} texts")
    made = make_head(
        _estimator(encoder, job, train.labels),
        Examples(encoder.encode(train.texts), as_labels(train.labels)),
        promise=job.promise,
        held_out=held,
        outside=encoder.encode(strange) if strange else None,
        scope=job.scope,
        temperature=job.temperature,
        fingerprint=str(encoder.fingerprint),
    )
    _say_what_was_made(made.head, made.n_train, made.scope_auroc, say)
    if job.scope and made.head.scope is None:
        say("no test of what is out of scope: too few examples can be held out to set its threshold; give more a label")
    return replace(made.head, space=space_of(encoder).root)


def describe_labels(encoder: TextEncoder, descriptions: Any, template: str = "{}") -> FittedHead:
    """A head by descriptions alone: a dict from label to text, or a list of labels.

    :raises InputError: if there are fewer than two.
    """
    return ZeroShotHead(encoder, descriptions, template=template).fit().to_fitted()


def _check(job: FitJob) -> None:
    """Refuse what does not go together, before a file is read."""
    if job.kind not in KINDS:
        raise InputError(f"Kind {job.kind!r} is not known, expected one of {', '.join(KINDS)}.")
    if job.kind in _OTHERS and (job.promise.asked or job.held_out or job.outside or job.outside_label is not None):
        raise InputError(
            f"Promises and texts out of scope are for one label of several; kind {job.kind!r} gives others."
        )
    if len(job.layout.label) > 1 and job.kind not in ("hierarchical", "multi-label"):
        raise InputError(
            f"Found {len(job.layout.label)} label columns, expected one for kind {job.kind!r}. Several are levels "
            "of kind hierarchical, or the labels of multi-label; for more heads, fit one to each."
        )


def _set_apart(train: Labelled, job: FitJob) -> tuple[Labelled, list[str]]:
    """The examples in scope, and the texts that are labelled as out of it."""
    if job.outside_label is None:
        return train, []
    kept, strange = Labelled(), []
    for text, label, row in zip(train.texts, train.labels, train.rows, strict=True):
        if str(label) == job.outside_label:
            strange.append(text)
        else:
            kept.texts.append(text)
            kept.labels.append(label)
            kept.rows.append(row)
    if not strange:
        raise InputError(f"No row of {job.train} has label {job.outside_label!r}, which should be out of scope.")
    return kept, strange


def _estimator(encoder: TextEncoder, job: FitJob, labels: list[Any]) -> ClassifierHead:
    if job.kind == "zero-shot":
        return ZeroShotHead(encoder, job.descriptions or sorted(set(labels)))
    return CLASSIFIERS[job.kind]()


def _other_kind(encoder: TextEncoder, train: Labelled, kind: str, say: Say) -> FittedHead:
    head: MultiLabelHead | RegressionHead = RegressionHead() if kind == "regression" else MultiLabelHead()
    targets = as_numbers(train.labels) if kind == "regression" else train.labels
    say(f"encoding {len(train.texts)} texts")
    fitted = head.fit(encoder.encode(train.texts), targets).to_fitted(fingerprint=str(encoder.fingerprint))
    return replace(fitted, space=space_of(encoder).root)


def _refuse_one_label(train: Labelled, file: Path) -> None:
    """Before the texts are encoded, which may take an hour."""
    if len(set(train.labels)) < 2:
        only = train.labels[0] if train.labels else "that out of scope"
        raise InputError(
            f"{file} has no label but {only!r}, expected two or more to tell apart. Add examples of others; texts that "
            "are only to be refused can be given with --out-of-scope."
        )


def _say_what_is_odd(labels: list[Any], say: Say) -> None:
    """Labels that are probably one, or none."""
    counts = Counter(labels)
    alike: dict[str, list[str]] = {}
    for label in counts:
        alike.setdefault(" ".join(str(label).casefold().split()), []).append(str(label))
    for names in alike.values():
        if len(names) > 1:
            found = " and ".join(map(repr, sorted(names)))
            say(f"warning: labels {found} differ in letter case or spaces alone, and are taken as {len(names)} labels")
    for label, count in counts.items():
        if str(label).strip().casefold() in _MISSING:
            say(f"warning: {label!r} is taken as a label ({count} examples), not as a missing one")


def _say_what_is_rare(train: Labelled, say: Say) -> None:
    counts = Counter(train.labels)
    alone = sorted(str(label) for label, n in counts.items() if n == 1)
    if alone:
        say(f"warning: {len(alone)} of {len(counts)} labels have one example only, such as {alone[0]!r}")
    few = sum(n < _FEWEST_WORTH for n in counts.values()) - len(alone)
    if few:
        say(f"warning: {few} labels have two or three examples; eight or more make a usable head")


def _say_what_is_large(train: Labelled, kind: str, say: Say) -> None:
    n, labels = len(train.labels), len(set(train.labels))
    if kind not in ("prototype", "knn") and n * labels > LONG_FIT:
        say(f"warning: {labels} labels of {n} texts take a {kind} head long; --kind prototype or knn takes seconds")


def _say_what_leaked(train: list[str], others: list[str], file: Path, say: Say) -> None:
    both = len(leaked(train, others))
    if both:
        say(f"warning: {both} of {len(others)} texts of {file} are among the examples too: the promise is too good")


def _say_what_was_made(head: FittedHead, n_train: int, auroc: dict[str, float], say: Say) -> None:
    say(
        f"fitted to {n_train} examples of {len(head.labels)} labels, probabilities by {head.calibration.method} scaling"
    )
    kept = head.abstention
    if kept is not None:
        sure = "on average" if kept.confidence is None else f"with confidence {kept.confidence:.0%}"
        what = (
            f"at most {kept.level:.1%} of the answers wrong"
            if kept.promise == "errors"
            else f"{kept.level:.1%} answered"
        )
        say(f"answers from probability {kept.below:.3f} on: {what}, {sure}, by {kept.examples} examples held out")
    if auroc and head.scope is not None:
        tried = ", ".join(f"{name} {value:.3f}" for name, value in auroc.items() if name != "chosen")
        say(f"out of scope by {head.scope.name}: AUROC {tried}")
