"""Labeled texts read from files; unusable rows are rejected with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.aliases import Log, Reject
from encoder_tools.errors import InputError
from encoder_tools.io.columns import LabeledColumns
from encoder_tools.io.rejected_rows import RejectedRows
from encoder_tools.io.rows import Numbered, Reading, numbered, read_rows

_LETTERS = re.compile(r"[\W_]+")


@dataclass
class Labeled:
    """Texts and their labels, in the order of the rows they came from."""

    texts: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def rows_of(file: Path, split: str, rejected: RejectedRows, columns: LabeledColumns) -> Iterator[Numbered]:
    """Rows of a file with their numbers; those that cannot be read are rejected."""
    reading = Reading(split, columns.encoding, columns.delimiter)
    return numbered(read_rows(file, reject=rejected.from_reader, reading=reading), rejected.left_out)


def read_labeled(rows: Iterable[Numbered], columns: LabeledColumns, reject: Reject) -> Labeled:
    """All rows that can be used; the others are told to ``reject``.

    :raises InputError: if labels are of several kinds.
    """
    labeled = Labeled()
    for number, row in rows:
        try:
            text, label = columns.text_of(row), columns.label_of(row)
        except InputError as error:
            reject(number, str(error), dict(row))
            continue
        labeled.texts.append(text)
        labeled.labels.append(label)
        labeled.rows.append(number)
    kinds = Counter(_kind(label) for labels in labeled.labels for label in (labels if columns.many else (labels,)))
    if len(kinds) > 1:
        counts = " and ".join(f"{count} {kind}s" for kind, count in kinds.most_common())
        raise InputError(
            f"Labels are {counts}, expected one kind. Repair them, or take all as texts (--labels-as-text)."
        )
    return labeled


def read_labels(file: Path, out: Path, columns: LabeledColumns, split: str, log: Log) -> Labeled:
    """Labeled texts of a file; how many rows could not be used is said.

    :raises InputError: if none can be used, or labels are of several kinds.
    """
    rejected = RejectedRows(out, file)
    try:
        labeled = read_labeled(rows_of(file, split, rejected, columns), columns, rejected)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if not labeled.texts:
        raise InputError(f"No row of {file} can be used{rejected.said()}. {rejected.first or 'It has none.'}")
    log(f"{file}: {len(labeled.texts)} labeled texts{rejected.said()}")
    return labeled


def read_texts(file: Path, out: Path, columns: LabeledColumns, split: str, log: Log) -> list[str]:
    """Texts of a file, whatever their labels."""
    rejected = RejectedRows(out, file)
    texts = []
    for number, row in rows_of(file, split, rejected, columns):
        try:
            texts.append(columns.text_of(row))
        except InputError as error:
            rejected(number, str(error), dict(row))
    log(f"{file}: {len(texts)} texts{rejected.said()}")
    return texts


def as_labels(labels: list[Any]) -> NDArray[Any]:
    """Labels of one kind as an array of shape (n,)."""
    return np.array(labels)


def leaked(train: Sequence[str], test: Sequence[str]) -> NDArray[np.intp]:
    """Places in ``test`` of texts that are in ``train`` too, letter case, spaces and punctuation rejected."""
    known = {plain(text) for text in train}
    return np.array([row for row, text in enumerate(test) if plain(text) in known], dtype=np.intp)


def as_numbers(labels: Sequence[Any]) -> NDArray[np.float64]:
    """Labels as numbers, float64 of shape (n,).

    :raises InputError: if one is none, or not finite.
    """
    numbers = np.empty(len(labels))
    for row, label in enumerate(labels):
        try:
            numbers[row] = float(label)
        except (TypeError, ValueError, OverflowError):
            numbers[row] = np.nan
        if not np.isfinite(numbers[row]):
            raise InputError(f"Label {str(label)[:40]!r} is no finite number, as a regression needs. Repair it.")
    return numbers


def plain(text: str) -> str:
    """Letters and digits of a text, in lower case."""
    return _LETTERS.sub("", text.casefold()) or text


def _kind(label: Any) -> str:
    return "text" if isinstance(label, str) else "boolean" if isinstance(label, bool) else "number"
