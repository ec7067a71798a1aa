"""What a text in Markdown or HTML says, and where its headings are."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal, TypeAlias

from index.html_text import TITLE, read_html
from index.marked import Heading, Marked

TextKind: TypeAlias = Literal["text", "markdown", "html"]
KINDS = ("text", "markdown", "html")

_LINE = re.compile(r"\r\n?|\n")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n.*?^---[ \t]*$", re.DOTALL | re.MULTILINE)


def read_markup(source: str, kind: TextKind) -> Marked:
    """Read a source of a kind. HTML loses its tags, scripts and what is in its head; nothing is refused."""
    if kind == "html":
        return read_html(source)
    return Marked(source, _markdown_headings(source) if kind == "markdown" else [])


def _markdown_headings(source: str) -> list[Heading]:
    from markdown_it import MarkdownIt

    lines = [0, *(found.end() for found in _LINE.finditer(source)), len(source)]
    front = _FRONT_MATTER.match(source)
    body = front.end() if front else 0
    headings = []
    tokens = MarkdownIt("commonmark").disable("inline").parse(source)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.map is not None:
            start, end = lines[opening.map[0]], lines[min(opening.map[1], len(lines) - 1)]
            if start >= body:
                headings.append(Heading(start, end, int(opening.tag[1:]), " ".join(inline.content.split())[:TITLE]))
    return headings
