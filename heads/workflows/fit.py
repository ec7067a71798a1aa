"""A file in, a head out: what ``head fit`` does, for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from encoder_tools.aliases import Log
from encoder_tools.errors import InputError
from encoder_tools.io.columns import TEXT_AND_LABEL, LabeledColumns
from encoder_tools.model.embedding_space import space_of
from encoder_tools.protocols import TextEncoder
from heads.estimators.base import ClassifierHead
from heads.estimators.hierarchical import HierarchicalHead
from heads.estimators.linear import LONG_FIT, LinearHead
from heads.estimators.mlp import MLPHead
from heads.estimators.multilabel import MultiLabelHead
from heads.estimators.pipeline import NO_GUARANTEE, Examples, RiskGuarantee, fit_head
from heads.estimators.prototype import NeighborHead, PrototypeHead
from heads.estimators.regression import RegressionHead
from heads.estimators.zero_shot import ZeroShotHead
from heads.labeled import Labeled, as_labels, as_numbers, leaked, read_labels, read_texts
from heads.serving.fitted_head import FittedHead

CLASSIFIERS: dict[str, type[ClassifierHead]] = {
    "linear": LinearHead,
    "mlp": MLPHead,
    "prototype": PrototypeHead,
    "knn": NeighborHead,
    "hierarchical": HierarchicalHead,
}
"""Kinds that give one label of several."""
_OTHERS = ("multi-label", "regression")
ESTIMATORS = (*CLASSIFIERS, "zero-shot", *_OTHERS)
_FEWEST_WORTH = 4
_MISSING = frozenset({"na", "n/a", "nan", "none", "null", "nil", "-", "?", "unknown", "#n/a", "<na>"})


@dataclass(frozen=True)
class FitJob:
    """What to fit to what.

    :ivar train: file of labeled texts.
    :ivar out: folder that the head will be written to; rows that cannot be used are written beside it.
    :ivar held_out: file of examples for the guarantee; None takes a share of ``train``.
    :ivar outside: file of texts that are out of scope.
    :ivar outside_label: label of such texts in ``train``.
    :ivar descriptions: of the labels, for the kind "zero-shot"; None takes their names.
    :ivar temperature: of the scores, where the encoder was trained on the examples itself; see :func:`fit_head`.
    """

    train: Path
    out: Path
    columns: LabeledColumns = TEXT_AND_LABEL
    kind: str = "linear"
    split: str = "train"
    guarantee: RiskGuarantee = NO_GUARANTEE
    held_out: Path | None = None
    outside: Path | None = None
    outside_label: str | None = None
    scope: bool = True
    temperature: float | None = None
    descriptions: dict[str, str] | None = None


def fit_file(encoder: TextEncoder, job: FitJob, log: Log) -> FittedHead:
    """The head of a file; what is odd about the examples is logged.

    :raises InputError: if the kind is not known, the guarantee cannot be kept, or the examples cannot be fitted.
    """
    _check(job)
    columns = replace(job.columns, many=job.kind == "multi-label")
    train = read_labels(job.train, job.out, columns, job.split, log)
    if job.kind in _OTHERS:
        return _other_kind(encoder, train, job.kind, log)
    train, outside = _split_off_out_of_scope(train, job)
    _refuse_one_label(train, job.train)
    _say_what_is_odd(train.labels, log)
    _say_what_is_rare(train, log)
    _say_what_is_large(train, job.kind, log)
    if job.outside is not None:
        outside += read_texts(job.outside, job.out, columns, job.split, log)
    held = None
    if job.held_out is not None:
        others = read_labels(job.held_out, job.out, columns, job.split, log)
        _say_what_leaked(train.texts, others.texts, job.held_out, log)
        held = Examples(encoder.encode(others.texts), as_labels(others.labels))
    log(f"encoding {len(train.texts) + len(outside)} texts")
    made = fit_head(
        _estimator(encoder, job, train.labels),
        Examples(encoder.encode(train.texts), as_labels(train.labels)),
        guarantee=job.guarantee,
        held_out=held,
        outside=encoder.encode(outside) if outside else None,
        scope=job.scope,
        temperature=job.temperature,
        fingerprint=str(encoder.fingerprint),
    )
    _say_what_was_made(made.head, made.n_train, made.scope_auroc, log)
    if job.scope and made.head.scope is None:
        log("no test of what is out of scope: too few examples can be held out to set its threshold; give more a label")
    return replace(made.head, space=space_of(encoder).root)


def describe_labels(encoder: TextEncoder, descriptions: Any, template: str = "{}") -> FittedHead:
    """A head by descriptions alone: a dict from label to text, or a list of labels.

    :raises InputError: if there are fewer than two.
    """
    return ZeroShotHead(encoder, descriptions, template=template).fit().to_fitted()


def _check(job: FitJob) -> None:
    """Refuse what does not go together, before a file is read."""
    if job.kind not in ESTIMATORS:
        raise InputError(f"Kind {job.kind!r} is not known, expected one of {', '.join(ESTIMATORS)}.")
    if job.kind in _OTHERS and (job.guarantee.required or job.held_out or job.outside or job.outside_label is not None):
        raise InputError(
            f"Promises and texts out of scope are for one label of several; kind {job.kind!r} gives others."
        )
    if len(job.columns.label) > 1 and job.kind not in ("hierarchical", "multi-label"):
        raise InputError(
            f"Found {len(job.columns.label)} label columns, expected one for kind {job.kind!r}. Several are levels "
            "of kind hierarchical, or the labels of multi-label; for more heads, fit one to each."
        )


def _split_off_out_of_scope(train: Labeled, job: FitJob) -> tuple[Labeled, list[str]]:
    """The examples in scope, and the texts that are labeled as out of it."""
    if job.outside_label is None:
        return train, []
    kept, outside = Labeled(), []
    for text, label, row in zip(train.texts, train.labels, train.rows, strict=True):
        if str(label) == job.outside_label:
            outside.append(text)
        else:
            kept.texts.append(text)
            kept.labels.append(label)
            kept.rows.append(row)
    if not outside:
        raise InputError(f"No row of {job.train} has label {job.outside_label!r}, which should be out of scope.")
    return kept, outside


def _estimator(encoder: TextEncoder, job: FitJob, labels: list[Any]) -> ClassifierHead:
    if job.kind == "zero-shot":
        return ZeroShotHead(encoder, job.descriptions or sorted(set(labels)))
    return CLASSIFIERS[job.kind]()


def _other_kind(encoder: TextEncoder, train: Labeled, kind: str, log: Log) -> FittedHead:
    head: MultiLabelHead | RegressionHead = RegressionHead() if kind == "regression" else MultiLabelHead()
    targets = as_numbers(train.labels) if kind == "regression" else train.labels
    log(f"encoding {len(train.texts)} texts")
    fitted = head.fit(encoder.encode(train.texts), targets).to_fitted(fingerprint=str(encoder.fingerprint))
    return replace(fitted, space=space_of(encoder).root)


def _refuse_one_label(train: Labeled, file: Path) -> None:
    """Before the texts are encoded, which may take an hour."""
    if len(set(train.labels)) < 2:
        only = train.labels[0] if train.labels else "that out of scope"
        raise InputError(
            f"{file} has no label but {only!r}, expected two or more to tell apart. Add examples of others; texts that "
            "are only to be refused can be given with --out-of-scope."
        )


def _say_what_is_odd(labels: list[Any], log: Log) -> None:
    """Labels that are probably one, or none."""
    counts = Counter(labels)
    alike: dict[str, list[str]] = {}
    for label in counts:
        alike.setdefault(" ".join(str(label).casefold().split()), []).append(str(label))
    for names in alike.values():
        if len(names) > 1:
            listed = " and ".join(map(repr, sorted(names)))
            log(f"warning: labels {listed} differ in letter case or spaces alone, and are taken as {len(names)} labels")
    for label, count in counts.items():
        if str(label).strip().casefold() in _MISSING:
            log(f"warning: {label!r} is taken as a label ({count} examples), not as a missing one")


def _say_what_is_rare(train: Labeled, log: Log) -> None:
    counts = Counter(train.labels)
    alone = sorted(str(label) for label, n in counts.items() if n == 1)
    if alone:
        log(f"warning: {len(alone)} of {len(counts)} labels have one example only, such as {alone[0]!r}")
    few = sum(n < _FEWEST_WORTH for n in counts.values()) - len(alone)
    if few:
        log(f"warning: {few} labels have two or three examples; eight or more make a usable head")


def _say_what_is_large(train: Labeled, kind: str, log: Log) -> None:
    n, labels = len(train.labels), len(set(train.labels))
    if kind not in ("prototype", "knn") and n * labels > LONG_FIT:
        log(
            f"warning: {labels} labels of {n} texts take a {kind} head long; --estimator prototype or knn takes seconds"
        )


def _say_what_leaked(train: list[str], others: list[str], file: Path, log: Log) -> None:
    both = len(leaked(train, others))
    if both:
        log(f"warning: {both} of {len(others)} texts of {file} are among the examples too: the guarantee is too good")


def _say_what_was_made(head: FittedHead, n_train: int, auroc: dict[str, float], log: Log) -> None:
    log(
        f"fitted to {n_train} examples of {len(head.labels)} labels, probabilities by {head.calibration.method} scaling"
    )
    kept = head.abstention
    if kept is not None:
        sure = "on average" if kept.confidence is None else f"with confidence {kept.confidence:.0%}"
        what = (
            f"at most {kept.level:.1%} of the answers wrong"
            if kept.guarantee == "errors"
            else f"{kept.level:.1%} answered"
        )
        log(f"answers from probability {kept.below:.3f} on: {what}, {sure}, by {kept.examples} examples held out")
    if auroc and head.scope is not None:
        candidates = ", ".join(f"{name} {value:.3f}" for name, value in auroc.items() if name != "chosen")
        log(f"out of scope by {head.scope.name}: AUROC {candidates}")
