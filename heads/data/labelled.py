"""Labelled texts in files: which column is what, and what cannot be used, with the reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError
from encoder_tools.io.rejected_rows import RejectedRows
from encoder_tools.io.rows import Numbered, Reading, Reject, numbered, read_rows
from heads.data.columns import Layout

Say = Callable[[str], None]
_LETTERS = re.compile(r"[\W_]+")


@dataclass
class Labelled:
    """Texts and their labels, in the order of the rows they came from."""

    texts: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def rows_of(file: Path, split: str, rejected: RejectedRows, layout: Layout) -> Iterator[Numbered]:
    """Rows of a file with their numbers; those that cannot be read are rejected."""
    reading = Reading(split, layout.encoding, layout.delimiter)
    return numbered(read_rows(file, reject=rejected.from_reader, reading=reading), rejected.left_out)


def read_labelled(rows: Iterable[Numbered], layout: Layout, reject: Reject) -> Labelled:
    """All rows that can be used; the others are told to ``reject``.

    :raises InputError: if labels are of several kinds.
    """
    found = Labelled()
    for number, row in rows:
        try:
            text, label = layout.text_of(row), layout.label_of(row)
        except InputError as error:
            reject(number, str(error), dict(row))
            continue
        found.texts.append(text)
        found.labels.append(label)
        found.rows.append(number)
    kinds = Counter(_kind(label) for labels in found.labels for label in (labels if layout.many else (labels,)))
    if len(kinds) > 1:
        counts = " and ".join(f"{count} {kind}s" for kind, count in kinds.most_common())
        raise InputError(
            f"Labels are {counts}, expected one kind. Repair them, or take all as texts (--labels-as-text)."
        )
    return found


def read_labels(file: Path, out: Path, layout: Layout, split: str, say: Say) -> Labelled:
    """Labelled texts of a file; how many rows could not be used is said.

    :raises InputError: if none can be used, or labels are of several kinds.
    """
    rejected = RejectedRows(out, file)
    try:
        found = read_labelled(rows_of(file, split, rejected, layout), layout, rejected)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if not found.texts:
        raise InputError(f"No row of {file} can be used{rejected.said()}. {rejected.first or 'It has none.'}")
    say(f"{file}: {len(found.texts)} labelled texts{rejected.said()}")
    return found


def read_texts(file: Path, out: Path, layout: Layout, split: str, say: Say) -> list[str]:
    """Texts of a file, whatever their labels."""
    rejected = RejectedRows(out, file)
    texts = []
    for number, row in rows_of(file, split, rejected, layout):
        try:
            texts.append(layout.text_of(row))
        except InputError as error:
            rejected(number, str(error), dict(row))
    say(f"{file}: {len(texts)} texts{rejected.said()}")
    return texts


def as_labels(labels: list[Any]) -> NDArray[Any]:
    """Labels of one kind as an array of shape (n,)."""
    return np.array(labels)


def leaked(train: Sequence[str], test: Sequence[str]) -> NDArray[np.intp]:
    """Places in ``test`` of texts that are in ``train`` too, letter case, spaces and punctuation rejected."""
    known = {plain(text) for text in train}
    return np.array([place for place, text in enumerate(test) if plain(text) in known], dtype=np.intp)


def as_numbers(labels: Sequence[Any]) -> NDArray[np.float64]:
    """Labels as numbers, float64 of shape (n,).

    :raises InputError: if one is none, or not finite.
    """
    found = np.empty(len(labels))
    for place, label in enumerate(labels):
        try:
            found[place] = float(label)
        except (TypeError, ValueError, OverflowError):
            found[place] = np.nan
        if not np.isfinite(found[place]):
            raise InputError(f"Label {str(label)[:40]!r} is no finite number, as a regression needs. Repair it.")
    return found


def plain(text: str) -> str:
    """Letters and digits of a text, in lower case."""
    return _LETTERS.sub("", text.casefold()) or text


def _kind(label: Any) -> str:
    return "text" if isinstance(label, str) else "boolean" if isinstance(label, bool) else "number"
