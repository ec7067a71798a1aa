"""``head fit`` as a function: a file in, a head out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from encoder_tools.aliases import Log
from encoder_tools.errors import InputError
from encoder_tools.model.embedding_space import space_of
from encoder_tools.protocols import TextEncoder
from heads.estimators.base import ClassifierHead
from heads.estimators.hierarchical import HierarchicalHead
from heads.estimators.linear import LinearHead
from heads.estimators.mlp import MLPHead
from heads.estimators.multilabel import MultiLabelHead
from heads.estimators.pipeline import Examples, FitResult, fit_head
from heads.estimators.prototype import NeighborHead, PrototypeHead
from heads.estimators.regression import RegressionHead
from heads.estimators.zero_shot import ZeroShotHead
from heads.labeled import Labeled, as_labels, as_numbers
from heads.serving.fitted_head import FittedHead
from heads.workflows.fit_data import FitJob, read_fit_data, read_train

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


def fit_file(encoder: TextEncoder, job: FitJob, log: Log) -> FittedHead:
    """The head of a file; what is odd about the examples is logged.

    :raises InputError: if the kind is not known, the guarantee cannot be kept, or the examples cannot be fitted.
    """
    _check(job)
    if job.kind in _OTHERS:
        return _other_kind(encoder, read_train(job, log), job.kind, log)
    data = read_fit_data(job, log)
    log(f"encoding {len(data.train.texts) + len(data.outside)} texts")
    held_out = None
    if data.held_out is not None:
        held_out = Examples(encoder.encode(data.held_out.texts), as_labels(data.held_out.labels))
    result = fit_head(
        _estimator(encoder, job, data.train.labels),
        Examples(encoder.encode(data.train.texts), as_labels(data.train.labels)),
        guarantee=job.guarantee,
        held_out=held_out,
        outside=encoder.encode(data.outside) if data.outside else None,
        scope=job.scope,
        temperature=job.temperature,
        fingerprint=str(encoder.fingerprint),
    )
    _log_result(result, log)
    if job.scope and result.head.scope is None:
        log("no test of what is out of scope: too few examples can be held out to set its threshold; give more a label")
    return replace(result.head, space=space_of(encoder).root)


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
            f"Guarantees and texts out of scope are for one label of several; kind {job.kind!r} gives others."
        )
    if len(job.columns.label) > 1 and job.kind not in ("hierarchical", "multi-label"):
        raise InputError(
            f"Found {len(job.columns.label)} label columns, expected one for kind {job.kind!r}. Several are levels "
            "of kind hierarchical, or the labels of multi-label; for more heads, fit one to each."
        )


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


def _log_result(result: FitResult, log: Log) -> None:
    head, n_train, auroc = result
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
