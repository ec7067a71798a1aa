"""Text and headings of Markdown and HTML."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal, TypeAlias

from index.documents.html import TITLE, read_html
from index.documents.source_code import CODE_KINDS, CodeKind, read_code
from index.documents.source_map import Heading, SourceText

TextKind: TypeAlias = Literal["text", "markdown", "html", "pages"] | CodeKind
"""Of texts with pages, each but the first begins with a form feed."""
TEXT_KINDS = ("text", "markdown", "html", "pages", *CODE_KINDS)

_FORM_FEED = re.compile("\f")
_LINE = re.compile(r"\r\n?|\n")
# YAML between lines of "---" whose first line is a key, or a comment before one; a rule has an empty line behind it
_YAML = r"---[ \t]*\r?\n(?:#[^\n]*\n)*[\w\"'][^\n]*:(?:[ \t][^\n]*)?\r?\n(?:[^\n]*\n)*?(?:---|\.\.\.)[ \t]*$"
_TOML = r"\+\+\+[ \t]*\r?\n(?:[^\n]*\n)*?\+\+\+[ \t]*$"
_FRONT_MATTER = re.compile(rf"\A\ufeff?(?:{_YAML}|{_TOML})", re.MULTILINE)


def read_markup(source: str, kind: TextKind, *, main_text: bool = False) -> SourceText:
    """Read a source of a kind. HTML loses its tags, scripts and what is in its head; nothing is refused.

    :raises MissingExtraError: for source code, if the grammar of its language is not installed.

    :param main_text: leave out navigation, footers and cookie banners of HTML.
    """
    if kind == "html":
        return read_html(source, main_text=main_text)
    if kind in CODE_KINDS:
        return read_code(source, kind)
    if kind == "pages":
        starts = [match.end() for match in _FORM_FEED.finditer(source)]
        return SourceText(_FORM_FEED.sub("\n", source), [], pages=starts)
    return SourceText(source, _markdown_headings(source) if kind == "markdown" else [])


def _markdown_headings(source: str) -> list[Heading]:
    from markdown_it import MarkdownIt

    lines = [0, *(match.end() for match in _LINE.finditer(source)), len(source)]
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
