"""Quality figures from a model's card."""

from __future__ import annotations

from pathlib import Path

_MOST_BYTES = 1_000_000
_MOST_ROWS = 50


def quality_of(card: Path) -> list[list[str]]:
    """The first table of a Markdown file that has a number in every row, its head first; empty if there is none.

    A card is somebody's text: what cannot be read is passed over.
    """
    from markdown_it import MarkdownIt

    try:
        text = card.read_bytes()[:_MOST_BYTES].decode("utf-8", "replace")
    except OSError:
        return []
    table: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            table = []
        elif token.type == "tr_open":
            table.append([])
        elif token.type == "inline" and table:
            table[-1].append("".join(child.content for child in token.children or []))
        elif token.type == "table_close" and _has_figures(table):
            return table[:_MOST_ROWS]
        elif token.type == "table_close":
            table = []
    return []


def _has_figures(table: list[list[str]]) -> bool:
    return len(table) > 1 and all(any(letter.isdigit() for cell in row[1:] for letter in cell) for row in table[1:])
