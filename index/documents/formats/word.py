"""Word documents (.docx) as Markdown: headings, lists and tables stay what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from index.documents.formats.extracted import Extracted, cleaned, described, table_lines

_HEADING = re.compile(r"heading ([1-6])$", re.IGNORECASE)
_MARKUP = re.compile(r"^(\s*)([#>+*-]|\d+[.)])(?=\s)", re.MULTILINE)


def read_word(path: Path) -> Extracted:
    """The text of kind "markdown"."""
    from docx import Document

    document = Document(str(path))
    about = document.core_properties
    metadata = described([("title", about.title), ("author", about.author), ("subject", about.subject)])
    return Extracted(cleaned("\n\n".join(_blocks(document))), metadata)


def _blocks(container: Any) -> Iterator[str]:
    """Paragraphs and tables in their order."""
    for block in container.iter_inner_content():
        if hasattr(block, "rows"):
            yield "\n\n".join(table_lines(_rows(block)))
        elif block.text.strip():
            yield _paragraph(block)


def _paragraph(paragraph: Any) -> str:
    text = paragraph.text.strip()
    style = (paragraph.style.name if paragraph.style is not None else None) or ""
    heading = _HEADING.search(style)
    if style.lower() == "title" or heading is not None:
        level = 1 if heading is None else int(heading.group(1))
        return f"{'#' * level} {' '.join(text.split())}"
    if style.lower().startswith("list"):
        return f"- {text}"
    return _MARKUP.sub(r"\1\\\2", text)  # what looks like Markdown in a text is none


def _rows(table: Any) -> Iterator[list[str]]:
    for row in table.rows:
        cells, seen = [], set()
        for cell in row.cells:
            if id(cell._tc) not in seen:  # a merged cell is given once for each column
                seen.add(id(cell._tc))
                cells.append("\n".join(_blocks(cell)))
        yield cells
