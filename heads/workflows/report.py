"""``head evaluate`` and ``head report`` as functions: files in, figures and pages out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from encoder_tools.aliases import Log
from encoder_tools.errors import InputError
from encoder_tools.io.columns import LabeledColumns
from encoder_tools.io.files import write_json
from encoder_tools.protocols import TextEncoder
from heads.estimators.linear import LinearHead
from heads.estimators.prototype import PrototypeHead
from heads.evaluation import AnyReport, evaluate, evaluate_many, evaluate_numbers, examine, write_page
from heads.evaluation.serialize import described
from heads.labeled import as_labels, leaked, read_labels, read_texts
from heads.serving.fitted_head import FittedHead

_MOST_JUDGED = 5 * 10**7  # scores, from which linear heads would take an hour to find suspects


def evaluate_file(
    encoder: TextEncoder,
    head: FittedHead,
    test: Path,
    columns: LabeledColumns,
    split: str,
    *,
    train: Path | None,
    log: Log,
) -> AnyReport:
    """Figures of a head, as its kind has them, on a file of labeled texts.

    :param train: file that the head was fitted on, to count the texts that are in both.
    """
    columns = replace(columns, many=head.link == "sigmoid")
    labeled = read_labels(test, test, columns, split, log)
    known = read_texts(train, train, columns, split, log) if train is not None else []
    both = len(leaked(known, labeled.texts))
    if both:
        log(f"warning: {both} of {len(labeled.texts)} texts of {test} are in {train} too")
    vectors = encoder.encode(labeled.texts)
    if head.link == "sigmoid":
        return evaluate_many(head, vectors, labeled.labels, leaked=both)
    if head.link == "identity":
        return evaluate_numbers(head, vectors, labeled.labels, leaked=both)
    return evaluate(head, vectors, as_labels(labeled.labels), leaked=both)


def report_file(
    encoder: TextEncoder,
    head: FittedHead,
    out: Path,
    columns: LabeledColumns,
    split: str,
    *,
    train: Path | None = None,
    test: Path | None = None,
    pool: Path | None = None,
    json_file: Path | None = None,
    log: Log,
) -> None:
    """Write a page, and the same as JSON, about a head, its examples, and what to label next.

    :raises InputError: if examples are to be shown of a head that does not give one label of several.
    """
    if train is not None and head.link != "softmax":
        raise InputError(
            "A map of the examples and labels that look wrong need one label per text, which this head does not give. "
            "Leave --train out; --test gives its figures."
        )
    report = None
    if test is not None:
        report = evaluate_file(encoder, head, test, columns, split, train=train, log=log)
    examples, texts, waiting = None, [], []
    if train is not None:
        known = read_labels(train, out, columns, split, log)
        waiting = read_texts(pool, out, columns, split, log) if pool is not None else []
        inside = [row for row, label in enumerate(known.labels) if label in set(head.labels)]
        texts = [known.texts[row] for row in inside]
        labels = as_labels([known.labels[row] for row in inside])
        vectors = encoder.encode(texts)
        pooled = encoder.encode(waiting) if waiting else None
        estimator = LinearHead() if len(labels) * len(head.labels) < _MOST_JUDGED else PrototypeHead()
        examples = examine(estimator, vectors, labels, head=head, pool=pooled)
    title = "A head that gives a number" if head.link == "identity" else f"Head of {len(head.labels)} labels"
    write_page(out, title, report, examples, texts, waiting)
    if json_file is not None:
        shown = None if examples is None else described(examples) | {"texts": texts}
        write_report(json_file, report, shown)


def write_report(path: Path, report: AnyReport | None, examples: dict[str, Any] | None = None) -> None:
    """Write figures, and what was found of the examples, as JSON."""
    content = {"format": "encoder-tools head report", "format_version": 1}
    write_json(path, content | {"figures": described(report), "examples": examples})
