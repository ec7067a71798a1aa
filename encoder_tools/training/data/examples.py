"""Examples of a set: read, deduplicated, partly held out and kept out of training."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from encoder_tools.aliases import Row
from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.io.rows import read_rows, write_rows
from encoder_tools.training.data.near_duplicates import NearTexts
from encoder_tools.training.recipe import DataSet


class Example(NamedTuple):
    """One example: a query, a text that answers it, texts that do not; or two sides and how alike they are; or two
    texts of one label; or one plain text, its document empty.
    """

    query: str
    document: str
    negatives: tuple[str, ...] = ()
    score: float = 0.0
    label: str = ""


class Examples(NamedTuple):
    """A set that was read.

    :ivar train: to train on, shuffled.
    :ivar held_out: to measure on.
    :ivar facts: how many were read, and how many left out and why.
    """

    train: list[Example]
    held_out: list[Example]
    facts: dict[str, int]


def read_examples(settings: DataSet, root: Path, seed: int) -> Examples:
    """Read one set.

    Rows with an empty side and exact repetitions are left out; so is what shares a text with a held-out example; so is,
    where the recipe asks for it, what is nearly equal to another one or to a held-out one.

    :param root: folder that the file is relative to.
    :raises FileMissingError: if the file is not there.
    :raises FileCorruptError: if it is damaged, or a row is not of its shape.
    :raises InputError: if a column is not there, or nothing to train on is left.
    """
    path = root / settings.file
    rows = [_example(path, number, row, settings) for number, row in enumerate(read_rows(path, settings.split), 1)]
    whole = [row for row in rows if row.query.strip() and (row.document.strip() or not settings.paired)]
    if whole and settings.shape == "pairs" and all(folded(row.query) == folded(row.document) for row in whole):
        raise InputError(f"{path}: query and document are equal in every row. Name two different columns.")
    distinct = _distinct(whole)
    order = np.random.default_rng(seed).permutation(len(distinct))
    shuffled = [distinct[position] for position in order]
    held_out, rest = shuffled[: settings.held_out], shuffled[settings.held_out :]
    apart = _apart(rest, held_out)
    near = _without_near(apart, held_out, settings.near_duplicates)
    facts = {
        "read": len(rows),
        "empty": len(rows) - len(whole),
        "repeated": len(whole) - len(distinct),
        "held out": len(held_out),
        "kept out, sharing a text with a held-out one": len(rest) - len(apart),
        "nearly equal to another one or to a held-out one": len(apart) - len(near),
    }
    train = near[: settings.limit or len(near)]
    if settings.label:
        paired = _pairs_of_labels(train, settings.positives)
        facts["alone in their label"] = len(train) - len({row.query for row in paired})
        train = [paired[position] for position in np.random.default_rng([seed, 1]).permutation(len(paired))]
    if settings.label and len({row.label for row in train}) == 1:
        raise InputError(f"{path} has one label, {train[0].label!r}, among what is trained on, expected two or more.")
    if len(train) < 2:
        raise InputError(f"{path} leaves {len(train)} examples to train on ({facts}), expected two or more. Add rows.")
    return Examples(train, held_out, {**facts, "trained on": len(train)})


def write_examples(path: Path, examples: Sequence[Example]) -> int:
    """Write examples as JSON Lines of query, document, negative_1 and so on; return how many.

    :raises SaveError: if writing fails; what stood there before is untouched.
    """
    rows: list[Row] = [
        {"query": row.query, "document": row.document}
        | {f"negative_{number}": text for number, text in enumerate(row.negatives, start=1)}
        for row in examples
    ]
    write_rows(path, iter(rows))
    return len(rows)


def folded(text: str) -> str:
    """A text without what makes no other text of it: case, and how words are spaced."""
    return " ".join(text.casefold().split())


def _distinct(rows: Sequence[Example]) -> list[Example]:
    """The first of each repetition; of a labeled text's, whatever the labels are."""
    return list({(folded(row.query), folded(row.document), row.score): row for row in reversed(rows)}.values())


def _apart(rest: Sequence[Example], held_out: Sequence[Example]) -> list[Example]:
    """Those that share no text with what is held out."""
    seen = {folded(text) for row in held_out for text in (row.query, row.document) if text}
    return [row for row in rest if folded(row.query) not in seen and folded(row.document) not in seen]


def _without_near(rest: list[Example], held_out: Sequence[Example], threshold: float) -> list[Example]:
    """Those that are not nearly equal to an earlier one, both sides together, or in one side to a held-out one."""
    if not threshold:
        return rest
    measured, earlier, kept = NearTexts(threshold), NearTexts(threshold), []
    for text in dict.fromkeys(chain.from_iterable((row.query, row.document) for row in held_out)):
        if text:
            measured.add(folded(text))
    for row in rest:
        both = f"{folded(row.query)}\n{folded(row.document)}"
        sides = [folded(text) for text in (row.query, row.document) if text]
        if earlier.has_near(both) or any(measured.has_near(text) for text in sides):
            continue
        earlier.add(both)
        kept.append(row)
    return kept


def _pairs_of_labels(rows: Sequence[Example], positives: int) -> list[Example]:
    """Each text with the next ones of its label, in a ring: ``positives`` pairs a text, whatever the label's size."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        groups[row.label].append(row)
    return [
        Example(row.query, group[(number + step) % len(group)].query, label=row.label)
        for group in groups.values()
        for step in range(1, 1 + min(positives, len(group) - 1))
        for number, row in enumerate(group)
    ]


def _example(path: Path, number: int, row: Row, settings: DataSet) -> Example:
    for column in settings.columns:
        if column not in row:
            _no_column(path, column, list(row))
    if not settings.paired:
        text = _text_of(path, number, settings.text, row[settings.text])
        return Example(text, "", label=_label_of(path, number, row[settings.label]) if settings.label else "")
    names = (settings.query, settings.document, *settings.negatives)
    texts = [_text_of(path, number, column, row[column]) for column in names]
    score = _score_of(path, number, row[settings.score]) if settings.score else 0.0
    return Example(texts[0], texts[1], tuple(text for text in texts[2:] if text.strip()), score)


def _no_column(path: Path, column: str, columns: Sequence[Any]) -> None:
    names = [str(name) for name in columns]
    near = difflib.get_close_matches(column, names, n=1, cutoff=0.4)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{path} has no column {column!r}, it has {', '.join(names) or 'none'}.{meant}")


def _text_of(path: Path, number: int, column: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FileCorruptError(f"{path}, row {number}: {column!r} is {str(value)[:40]!r}, expected a text.")
    return value


def _label_of(path: Path, number: int, value: Any) -> str:
    if isinstance(value, (str, int)) and str(value).strip():
        return str(value)
    raise FileCorruptError(f"{path}, row {number}: the label is {str(value)[:40]!r}, expected a name or a number.")


def _score_of(path: Path, number: int, value: Any) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = float("nan")
    if not np.isfinite(score):
        raise FileCorruptError(f"{path}, row {number}: the score is {str(value)[:40]!r}, expected a finite number.")
    return score
