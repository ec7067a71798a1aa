"""Excel workbooks (.xlsx): a section for each sheet, a line for each row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from index.documents.formats.extracted import Extracted, described, table_lines


def read_sheets(path: Path) -> Extracted:
    """The text of kind "markdown"; of formulas their last values."""
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    try:
        sections = []
        for sheet in book.worksheets:
            lines = list(table_lines(_rows(sheet)))
            if lines:
                sections.append("\n\n".join([f"# {' '.join(sheet.title.split())}", *lines]))
        about = book.properties
        return Extracted("\n\n".join(sections), described([("title", about.title), ("author", about.creator)]))
    finally:
        book.close()


def _rows(sheet: Any) -> Iterator[list[Any]]:
    for row in sheet.iter_rows(values_only=True):
        yield [_value(cell) for cell in row]


def _value(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat(sep=" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell
