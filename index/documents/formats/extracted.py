"""What is read of a document."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

PAGE = "\f"
"""Stands between the pages of a text of kind "pages"."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad\u2010]\n(?=[a-zà-öø-ÿ])")


class UnreadableError(ValueError):
    """A document that cannot be read, with the reason."""


@dataclass
class Extracted:
    """A document's text.

    :ivar metadata: what it says of itself, such as its title.
    :ivar problems: what in it could not be read, and is not in the text.
    """

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def cleaned(text: str) -> str:
    """Without control characters and lone surrogates."""
    return _CONTROL.sub("", text.encode("utf-8", "replace").decode("utf-8"))


def unhyphenated(text: str) -> str:
    """Words that a line's end divided, whole again."""
    return _HYPHEN.sub("", text)


def described(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Metadata of those values that say something."""
    texts = ((name, " ".join(cleaned(str(value)).split())) for name, value in pairs if value is not None)
    return {name: text for name, text in texts if text}


def pages_of(pages: Iterable[str]) -> str:
    """Pages as one text."""
    return PAGE.join(cleaned(page).replace(PAGE, "\n").strip() for page in pages)


def table_lines(rows: Iterable[Iterable[Any]]) -> Iterable[str]:
    """Rows of a table, each as one line that can be understood alone: ``column: value; column: value``.

    The first row names the columns, if all of its cells are different texts.
    """
    names: list[str] | None = None
    for row in rows:
        cells = [_cell(cell) for cell in row]
        if not any(cells):
            continue
        if names is None:
            names = cells
            if _are_names(cells):
                continue
            names = []
        yield table_line(zip_longest(names[: len(cells)], cells, fillvalue=""))


def table_line(cells: Iterable[tuple[str, Any]]) -> str:
    """A row of a table as one line, from the names of its columns (empty for none) and its cells."""
    texts = ((name, _cell(cell)) for name, cell in cells)
    return "; ".join(f"{name}: {text}" if name else text for name, text in texts if text)


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(cleaned(str(value)).split())


def _are_names(cells: list[str]) -> bool:
    known = [cell for cell in cells if cell]
    return len(known) > 1 and len(set(known)) == len(known) and not any(_is_number(cell) for cell in known)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True
