"""The data of a fit: read once, with warnings about labels that look wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from encoder_tools.aliases import Log
from encoder_tools.errors import InputError
from encoder_tools.io.columns import TEXT_AND_LABEL, LabeledColumns
from heads.estimators.linear import LONG_FIT
from heads.estimators.pipeline import NO_GUARANTEE, RiskGuarantee
from heads.labeled import Labeled, leaked, read_labels, read_texts

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


class FitData(NamedTuple):
    """Everything that was read.

    :ivar train: examples in scope.
    :ivar outside: texts that are out of scope.
    :ivar held_out: examples for the guarantee; None if a file of them is not named.
    """

    train: Labeled
    outside: list[str]
    held_out: Labeled | None


def read_train(job: FitJob, log: Log) -> Labeled:
    """The labeled texts of a job."""
    columns = replace(job.columns, many=job.kind == "multi-label")
    return read_labels(job.train, job.out, columns, job.split, log)


def read_fit_data(job: FitJob, log: Log) -> FitData:
    """Everything that a job names, for a head that gives one label of several.

    :raises InputError: if there are fewer than two labels, or none of the label that should be out of scope.
    """
    train, outside = _split_off_out_of_scope(read_train(job, log), job)
    _check_two_labels(train, job.train)
    _warn_of_odd_labels(train.labels, log)
    _warn_of_rare_labels(train, log)
    _warn_of_size(train, job.kind, log)
    if job.outside is not None:
        outside += read_texts(job.outside, job.out, job.columns, job.split, log)
    held_out = None
    if job.held_out is not None:
        held_out = read_labels(job.held_out, job.out, job.columns, job.split, log)
        _warn_of_leaks(train.texts, held_out.texts, job.held_out, log)
    return FitData(train, outside, held_out)


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


def _check_two_labels(train: Labeled, file: Path) -> None:
    """Before the texts are encoded, which may take an hour."""
    if len(set(train.labels)) < 2:
        only = train.labels[0] if train.labels else "that out of scope"
        raise InputError(
            f"{file} has no label but {only!r}, expected two or more to tell apart. Add examples of others; texts that "
            "are only to be refused can be given with --out-of-scope."
        )


def _warn_of_odd_labels(labels: list[Any], log: Log) -> None:
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


def _warn_of_rare_labels(train: Labeled, log: Log) -> None:
    counts = Counter(train.labels)
    alone = sorted(str(label) for label, n in counts.items() if n == 1)
    if alone:
        log(f"warning: {len(alone)} of {len(counts)} labels have one example only, such as {alone[0]!r}")
    few = sum(n < _FEWEST_WORTH for n in counts.values()) - len(alone)
    if few:
        log(f"warning: {few} labels have two or three examples; eight or more make a usable head")


def _warn_of_size(train: Labeled, kind: str, log: Log) -> None:
    n, labels = len(train.labels), len(set(train.labels))
    if kind not in ("prototype", "knn") and n * labels > LONG_FIT:
        log(
            f"warning: {labels} labels of {n} texts take a {kind} head long; --estimator prototype or knn takes seconds"
        )


def _warn_of_leaks(train: list[str], others: list[str], file: Path, log: Log) -> None:
    both = len(leaked(train, others))
    if both:
        log(f"warning: {both} of {len(others)} texts of {file} are among the examples too: the guarantee is too good")
