"""Rows of files whose cells are separated by a character: CSV and TSV.

Source: RFC 4180; what spreadsheets write beside it (other separators, ``sep=;``) is told by the first rows.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from encoder_tools.aliases import Reject
from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.io.decoding import lines_of
from encoder_tools.io.row_checks import check_column_names

LONGEST_CELL = 2**24
"""Characters of a cell; a longer one is a quotation mark that is never closed."""
_SEPARATORS = ",;\t|"
_LOOKED_AT = 50  # lines by which a separator is told


def separated_rows(
    path: Path, kind: str, reject: Reject | None, encoding: str | None = None, delimiter: str | None = None
) -> Iterator[dict[Any, Any]]:
    """Rows by their columns' names.

    :param kind: ".csv", or ".tsv", where a quotation mark is a quotation mark.
    :param reject: is told of rows with more or fewer cells than the header, and of damaged ones; None raises at the
        first damaged one and lets the others be.
    :param delimiter: None tells it by the first rows of a CSV.
    :raises FileCorruptError: if a row cannot be read, and where the next one begins cannot be told.
    :raises InputError: if two columns have one name.
    """
    if csv.field_size_limit() < LONGEST_CELL:
        csv.field_size_limit(LONGEST_CELL)  # the module's own limit of 131,072 is below many a document
    lines = lines_of(path, encoding)
    first = list(islice(lines, _LOOKED_AT))
    if kind == ".tsv":
        style: dict[str, Any] = {"delimiter": delimiter or "\t", "quoting": csv.QUOTE_NONE}
    else:
        told = _told_by_line(first)
        first = first[1:] if told else first
        style = {"delimiter": delimiter or told or _separator(path, first)}
    yield from _rows(path, kind, csv.reader(chain(first, lines), strict=True, **style), reject)


def _rows(path: Path, kind: str, reader: Any, reject: Reject | None) -> Iterator[dict[Any, Any]]:
    names: list[str] | None = None
    number = 0
    while True:
        begun = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += names is not None
            _damaged(path, kind, begun, reader.line_num, error, readable=names is not None and reject is not None)
            if reject is not None:
                reject(number, f"line {reader.line_num}: {error}", None)
            continue
        if not cells:
            continue
        if names is None:
            names = [name.removeprefix("\ufeff") for name in cells]
            check_column_names(path, names)
            continue
        number += 1
        row: dict[Any, Any] = dict(zip_longest(names, cells[: len(names)]))
        if len(cells) > len(names):
            row[None] = cells[len(names) :]  # as csv.DictReader has cells beyond the header
        if len(cells) != len(names) and reject is not None:
            told = {str(name): cell for name, cell in row.items()}
            reject(number, f"found {len(cells)} cells, the header has {len(names)}", told)
        else:
            yield row


def _damaged(path: Path, kind: str, begun: int, line: int, error: csv.Error, *, readable: bool) -> None:
    """Whether the next row can be told after a damaged one: it can where that was one line."""
    if readable and begun == line and "field larger" not in str(error) and "unexpected end" not in str(error):
        return
    where = f"line {line}" if begun == line else f"the row that begins on line {begun}"
    raise FileCorruptError(
        f"{path} is no whole {kind[1:].upper()} file: {where} cannot be read ({error}); a quotation mark may be left "
        "open there. What comes behind cannot be told from its text. Repair the row."
    )


def _told_by_line(first: Sequence[str]) -> str | None:
    """The separator of a first line ``sep=;``, as spreadsheets write it."""
    line = first[0].removeprefix("\ufeff").rstrip("\r\n").strip('"') if first else ""
    return line[4] if len(line) == 5 and line.lower().startswith("sep=") else None


def _separator(path: Path, first: Sequence[str]) -> str:
    """The character that splits the header and most rows into as many cells; a comma where nothing speaks against it.

    :raises InputError: if two of them do so equally well.
    """
    fits = {separator: _fit(first, separator) for separator in _SEPARATORS}
    best = max(fits.values())
    chosen = [separator for separator, fit in fits.items() if fit == best]
    if best[0] < 2 or "," in chosen:
        return ","
    if len(chosen) > 1:
        names = " or ".join(map(repr, chosen))
        raise InputError(f"{path} may be separated by {names}; name the character with --delimiter.")
    return chosen[0]


def _fit(first: Sequence[str], separator: str) -> tuple[float, float]:
    """2 where a header of several cells has rows as long, 1 where it has not; and the share of such rows."""
    try:
        rows = [row for row in _whole_rows(first, separator) if row]
    except csv.Error:
        return 0.0, 0.0
    if not rows or len(rows[0]) < 2:
        return 0.0, 0.0
    same = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    return (2.0 if same > 0.5 else 1.0), same


def _whole_rows(first: Sequence[str], separator: str) -> list[list[str]]:
    """Rows that end within the first lines; the last one may continue behind them."""
    rows: list[list[str]] = []
    reader = csv.reader(first, strict=True, delimiter=separator)
    while True:
        try:
            rows.append(next(reader))
        except StopIteration:
            return rows
        except csv.Error as error:
            if "unexpected end" in str(error):
                return rows
            if not rows:
                raise
