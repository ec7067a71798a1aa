"""Files in, figures and pages out: what ``head evaluate`` and ``head report`` do, for programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from encoder_tools.errors import InputError
from encoder_tools.io.files import write_json
from encoder_tools.protocols import TextEncoder
from heads.data.columns import Layout
from heads.data.labelled import Say, as_labels, leaked, read_labels, read_texts
from heads.estimators.linear import LinearHead
from heads.estimators.prototype import PrototypeHead
from heads.evaluation import AnyReport, evaluate, evaluate_many, evaluate_numbers, examine, write_page
from heads.evaluation.serialize import described
from heads.serving.fitted_head import FittedHead

_MOST_JUDGED = 5 * 10**7  # scores, from which linear heads would take an hour to find suspects


def evaluate_file(
    encoder: TextEncoder, head: FittedHead, test: Path, layout: Layout, split: str, *, train: Path | None, say: Say
) -> AnyReport:
    """Figures of a head, as its kind has them, on a file of labelled texts.

    :param train: file that the head was fitted on, to count the texts that are in both.
    """
    layout = replace(layout, many=head.link == "sigmoid")
    found = read_labels(test, test, layout, split, say)
    known = read_texts(train, train, layout, split, say) if train is not None else []
    both = len(leaked(known, found.texts))
    if both:
        say(f"warning: {both} of {len(found.texts)} texts of {test} are in {train} too")
    vectors = encoder.encode(found.texts)
    if head.link == "sigmoid":
        return evaluate_many(head, vectors, found.labels, leaked=both)
    if head.link == "identity":
        return evaluate_numbers(head, vectors, found.labels, leaked=both)
    return evaluate(head, vectors, as_labels(found.labels), leaked=both)


def report_file(
    encoder: TextEncoder,
    head: FittedHead,
    out: Path,
    layout: Layout,
    split: str,
    *,
    train: Path | None = None,
    test: Path | None = None,
    pool: Path | None = None,
    json_file: Path | None = None,
    say: Say,
) -> None:
    """Write a page, and the same as JSON, about a head, its examples, and what to label next.

    :raises InputError: if examples are to be shown of a head that does not give one label of several.
    """
    if train is not None and head.link != "softmax":
        raise InputError(
            "A map of the examples and labels that look wrong need one label a text, which this head does not give. "
            "Leave --train out; --test gives its figures."
        )
    report = None
    if test is not None:
        report = evaluate_file(encoder, head, test, layout, split, train=train, say=say)
    examples, texts, waiting = None, [], []
    if train is not None:
        known = read_labels(train, out, layout, split, say)
        waiting = read_texts(pool, out, layout, split, say) if pool is not None else []
        inside = [place for place, label in enumerate(known.labels) if label in set(head.labels)]
        texts = [known.texts[place] for place in inside]
        labels = as_labels([known.labels[place] for place in inside])
        vectors = encoder.encode(texts)
        pooled = encoder.encode(waiting) if waiting else None
        judge = LinearHead() if len(labels) * len(head.labels) < _MOST_JUDGED else PrototypeHead()
        examples = examine(judge, vectors, labels, head=head, pool=pooled)
    title = "A head that gives a number" if head.link == "identity" else f"Head of {len(head.labels)} labels"
    write_page(out, title, report, examples, texts, waiting)
    if json_file is not None:
        shown = None if examples is None else described(examples) | {"texts": texts}
        write_report(json_file, report, shown)


def write_report(path: Path, report: AnyReport | None, examples: dict[str, Any] | None = None) -> None:
    """Write figures, and what was found of the examples, as JSON."""
    content = {"format": "encoder-tools head report", "format_version": 1}
    write_json(path, content | {"figures": described(report), "examples": examples})
