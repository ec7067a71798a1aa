"""Which columns of a row hold what: the text and the label of labeled texts, the text and the id of documents."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from encoder_tools.aliases import Row
from encoder_tools.errors import InputError

_LIST = re.compile(r"\s*(\[.*\]|\(.*,.*\))\s*", re.DOTALL)
_SET = (1, "1", "true", "yes", "x")
_UNSET = (0, "0", "false", "no", "", None)
_LEVELS = ":"  # between a label and its parent, as HierarchicalHead has it


@dataclass(frozen=True)
class DocumentColumns:
    """Which columns are the text, the id and the metadata of documents.

    :ivar text: column of the texts.
    :ivar identifier: column of the ids; a row without one is named by ``name`` and its number.
    :ivar metadata: columns that are kept; None keeps all others that have a value.
    :ivar name: of the file.
    """

    text: str = "text"
    identifier: str = "id"
    metadata: tuple[str, ...] | None = None
    name: str = "row"

    def parts(self, number: int, row: Row) -> tuple[Any, str, dict[str, Any]]:
        """The id, as it is written or made of the row's number, the text, and the metadata that have a value.

        :raises InputError: if there is no text.
        """
        text, identifier = row.get(self.text), row.get(self.identifier)
        if self.text not in row:
            raise InputError(f"There is no column {self.text!r}, but {', '.join(map(str, row))}.")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"The text is {str(text)[:40]!r}, expected a text that is not empty.")
        others = [name for name in row if name not in (self.text, self.identifier)]
        names = others if self.metadata is None else [name for name in self.metadata if name in row]
        metadata = {name: row[name] for name in names if row[name] is not None}
        return (f"{self.name}:{number}" if identifier in (None, "") else identifier), text, metadata


@dataclass(frozen=True)
class LabeledColumns:
    """Which columns are texts and which are labels.

    :ivar text: columns of the text; several are joined by a line end.
    :ivar label: columns of the label. Several are levels, the parent first, joined by a colon; where there may be many
        labels, they are labels themselves, each set or not (1 and 0, true and false, yes and no, x and empty).
    :ivar many: whether a text may have any number of labels: a list, several in one cell, or several columns.
    :ivar separator: between labels in one cell.
    :ivar as_text: whether labels are taken as they are written, whatever their kind.
    :ivar lists: whether a cell such as ``['a', 'b']`` is a list that was written as text, as pandas does.
    :ivar encoding: of the files, and ``delimiter`` of CSV files; see :class:`encoder_tools.io.rows.Reading`.
    """

    text: Sequence[str] = ("text",)
    label: Sequence[str] = ("label",)
    many: bool = False
    separator: str = ","
    as_text: bool = False
    lists: bool = False
    encoding: str | None = None
    delimiter: str | None = None

    def text_of(self, row: Row) -> str:
        """The text of a row.

        :raises InputError: if a column is not there, or there is no text in them.
        """
        parts = []
        for column in self.text:
            value = _cell(row, column)
            if value is not None and not isinstance(value, str):
                raise InputError(f"{column} is {str(value)[:40]!r}, a {type(value).__name__}, expected a text.")
            parts.append((value or "").strip())
        text = "\n".join(part for part in parts if part)
        if not text:
            raise InputError(f"{' and '.join(self.text)} is empty, expected a text.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError(f"{' and '.join(self.text)} holds half of a surrogate pair, expected valid Unicode.")
        return text

    def label_of(self, row: Row) -> Any:
        """The label of a row: a text, a number, or a tuple of them where there may be many.

        :raises InputError: if it is missing or of a kind that no label has.
        """
        if self.many:
            return self._labels_in(row)
        labels = [self._one(column, _stripped(_cell(row, column))) for column in self.label]
        return labels[0] if len(labels) == 1 else _LEVELS.join(map(str, labels))

    def _labels_in(self, row: Row) -> tuple[Any, ...]:
        if len(self.label) > 1:
            return tuple(column for column in self.label if _is_set(column, _stripped(_cell(row, column))))
        column = self.label[0]
        value = _cell(row, column)
        items = value
        if isinstance(value, str):
            items = self._written_list(column, value) if _LIST.fullmatch(value) else value.split(self.separator)
        if items is None:
            return ()
        if not isinstance(items, list | tuple):
            raise InputError(f"{column} is a {type(value).__name__}, expected a list of labels.")
        named = [_stripped(item) for item in items]
        return tuple(self._one(column, item) for item in named if item != "")

    def _written_list(self, column: str, value: str) -> list[Any]:
        """The labels of a cell that has a list as Python or JSON write it."""
        if not self.lists:
            raise InputError(
                f"{column} is {value[:40]!r}, a list written as text, not labels with {self.separator!r} between them. "
                "Read such cells as lists: --label-lists."
            )
        try:
            items = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            try:
                items = json.loads(value)
            except ValueError:
                items = None
        if not isinstance(items, list | tuple):
            raise InputError(f"{column} is {value[:40]!r}, which is no whole list. Repair the cell.")
        return list(items)

    def _one(self, column: str, value: Any) -> Any:
        if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
            raise InputError(f"{column} is missing ({value!r}), expected a label.")
        if isinstance(value, list | tuple):
            raise InputError(
                f"{column} is a list of labels, expected one. For any number of labels: --estimator multi-label."
            )
        if not isinstance(value, str | int | float):
            raise InputError(f"{column} is a {type(value).__name__}, expected a text or a number.")
        if not self.many and not self.as_text and isinstance(value, str) and _LIST.fullmatch(value):
            raise InputError(
                f"{column} is {value[:40]!r}, a list written as text. For any number of labels: "
                "--estimator multi-label "
                "--label-lists; to take it as one label: --labels-as-text."
            )
        return str(value) if self.as_text else value


def _cell(row: Row, column: str) -> Any:
    if column not in row:
        raise InputError(f"There is no column {column!r}, but {', '.join(map(str, row))}.")
    return row[column]


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _is_set(column: str, value: Any) -> bool:
    plain = value.lower() if isinstance(value, str) else value
    if plain not in _SET + _UNSET:
        raise InputError(f"{column} is {str(value)[:40]!r}, expected 1 or 0, true or false, yes or no, x or nothing.")
    return plain in _SET


TEXT_AND_LABEL = LabeledColumns()
