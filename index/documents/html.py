"""Text of an HTML page with source positions, in time linear in its length.

Python's own parser takes minutes for a hostile page, and those that do not (lexbor, html5lib) say nothing of where a
text was. Tags, comments and raw text are told apart as the standard does: a tag or a comment that is never closed ends
the page. Its head ends with the first element that cannot be in a head, whether ``</head>`` is written or not. Pages
that are XML, and ``<svg>`` and ``<math>`` in all pages, close an element with ``/>``; so does a ``<script/>`` or the
like elsewhere, whose text browsers would swallow. What CDATA holds is text. The tests compare texts with lexbor's.

Source: WHATWG, HTML Living Standard, sections 13.2.5, "Tokenization", and 13.2.6.4.4, "The in head insertion mode".
"""

from __future__ import annotations

import html
import re

import numpy as np
from numpy.typing import NDArray

from index.documents.source_map import Heading, SourceText

# possessive, so that nothing is tried twice: after "=" a quotation mark opens a value, which may hold ">"
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)((?:=\s*+(?:\"[^\"]*+\"|'[^']*+')|[^>])*+)(>?)")
_REFERENCE = re.compile(r"&(?:#[xX][0-9a-fA-F]{1,8}|#[0-9]{1,8}|[a-zA-Z][a-zA-Z0-9]{1,31});?")
_RUN = re.compile(r"\s+|\S+")
TITLE = 200  # characters of a heading that are kept, where it is never closed, say
_PARAGRAPH, _SECTION = "\n\n", "\n\n\n"
_RAW = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"})
_SILENT = frozenset({"head", "template", "noscript", "svg", "math", "object", *(_RAW - {"textarea", "xmp"})})
_BLOCKS = frozenset(
    "address article aside blockquote body caption dd details div dl dt fieldset figcaption figure footer form header "
    "hr html legend li main nav ol p pre section summary table tbody tfoot thead tr ul".split()
)
_IN_HEAD = frozenset("html head base basefont bgsound link meta title noscript noframes style script template".split())
_VOID = frozenset("area base br col embed hr img input link meta source track wbr param".split())
_FOREIGN = frozenset({"svg", "math"})
_XML = re.compile(r"\ufeff?\s*<\?xml\b|(?:\s*<!doctype[^>]*\bxhtml[^>]*>)?\s*<html\b[^>]*\bxmlns=", re.IGNORECASE)
_WHOLE = frozenset({"html", "head", "body", "main", "article"})
_NOT_MAIN = frozenset({"nav", "footer"})
_NOT_MAIN_ATTRIBUTES = re.compile(
    r"""(?:role\s*=\s*["']?(?:navigation|contentinfo)\b)"""
    r"""|(?:\b(?:id|class|aria-label)\s*=\s*(?:"[^"]*|'[^']*|[^\s>]*)(?:cookie|consent|gdpr|ccpa))""",
    re.IGNORECASE,
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}


def read_html(source: str, *, main_text: bool = False) -> SourceText:
    """Blocks become paragraphs and headings begin sections; scripts, and what is in the head, are left out.

    :param main_text: leave out ``<nav>``, ``<footer>``, and what calls itself a navigation or is about cookies.
    """
    page = _Page(is_xml=_XML.match(source) is not None, main_text=main_text)
    at = 0
    while at < len(source):
        opening = source.find("<", at)
        if opening != at:
            page.text(source, at, len(source) if opening < 0 else opening)
            if opening < 0:
                break
        at = _after_markup(source, opening, page)
    return page.source_text()


def _after_markup(source: str, at: int, page: _Page) -> int:
    """Read what begins with the "<" at a place; return where it ends."""
    tag = _TAG.match(source, at)
    if tag is not None:
        name = tag[2].lower()
        if tag[1]:
            page.close(name, at)
            return tag.end()
        empty = tag[3].endswith("/") and bool(tag[4])
        page.open(name, at, tag[3], empty=empty)
        if name not in _RAW or not tag[4] or empty:
            return tag.end()
        ending = re.compile(f"</{name}", re.IGNORECASE).search(source, tag.end())
        end = len(source) if ending is None else ending.start()
        page.text(source, tag.end(), end)
        return end
    if source.startswith("<![CDATA[", at):
        end = source.find("]]>", at)
        page.characters(source, at + 9, len(source) if end < 0 else end)
        return len(source) if end < 0 else end + 3
    if source.startswith("<!--", at):
        end = source.find("-->", at + 2)  # "<!-->" is a comment too
        return len(source) if end < 0 else end + 3
    if source[at + 1 : at + 2] in ("!", "?", "/"):
        end = source.find(">", at)
        return len(source) if end < 0 else end + 1
    page.text(source, at, at + 1)
    return at + 1


class _Page:
    """Puts together what is read."""

    def __init__(self, *, is_xml: bool, main_text: bool) -> None:
        self._is_xml, self._main_text = is_xml, main_text
        self._parts: list[str] = []
        self._places: list[tuple[int, int, int, int]] = []  # of each part: length, start, step and width in the source
        self._length, self._tail = 0, ""
        self._silent: dict[str, int] = {}  # elements that are open and say nothing
        self._kept = 0  # how many <pre> are open
        self._heading: tuple[int, int, int] | None = None  # the one that is open: first part, start, level
        self._headings: list[Heading] = []

    def source_text(self) -> SourceText:
        """What was read."""
        lengths, starts, steps, widths = np.array(self._places, dtype=np.int64).reshape(-1, 4).T
        return SourceText("".join(self._parts), self._headings, *_spread(lengths, starts, steps, widths))

    def open(self, name: str, at: int, attributes: str, *, empty: bool) -> None:
        """A tag that opens an element.

        :param empty: whether it ends with "/>".
        """
        if name == "body":
            self._silent = {}  # whatever was left open in the head
        elif name not in _IN_HEAD:
            self._silent.pop("head", None)
        if self._is_closed(name, empty=empty):
            if name in ("br", "hr") or name in _BLOCKS:
                self._break("\n" if name == "br" else _PARAGRAPH, at)
            return
        if name in _SILENT or name in self._silent or (self._main_text and _is_not_main(name, attributes)):
            self._silent[name] = self._silent.get(name, 0) + 1
        elif name in _HEADINGS:
            self._break(_SECTION, at)
            self._heading = len(self._parts), self._length, _HEADINGS[name]
        elif name in _BLOCKS:
            self._break(_PARAGRAPH, at)
            self._kept += name == "pre"
        elif name == "br":
            self._break("\n", at)
        elif name in ("td", "th"):
            self._space(at)

    def _is_closed(self, name: str, *, empty: bool) -> bool:
        """Whether a tag with "/>" is a whole element; in HTML it is of elements that are nothing without text."""
        if not empty:
            return False
        foreign = name in _FOREIGN or any(outer in self._silent for outer in _FOREIGN)
        return self._is_xml or foreign or name in _RAW or name in _VOID

    def close(self, name: str, at: int) -> None:
        """A tag that closes one."""
        if name in self._silent:
            self._silent[name] -= 1
            if not self._silent[name]:
                del self._silent[name]
        elif name in _HEADINGS and self._heading is not None:
            first, start, level = self._heading
            title = " ".join("".join(self._parts[first:]).split())
            self._headings += [Heading(start, self._length, level, title[:TITLE])] if title else []
            self._heading = None
            self._break(_PARAGRAPH, at)
        elif name in _BLOCKS:
            self._kept -= name == "pre" and self._kept > 0
            self._break(_PARAGRAPH, at)

    def characters(self, source: str, start: int, end: int) -> None:
        """Text without references."""
        if not self._silent:
            self._plain(source, start, end)

    def text(self, source: str, start: int, end: int) -> None:
        """Text between tags, with references such as ``&amp;``."""
        if self._silent.keys() == {"head"} and source[start:end].strip():
            self._silent = {}  # no text is in a head: it has ended
        if self._silent:
            return
        for reference in _REFERENCE.finditer(source, start, end):
            self._plain(source, start, reference.start())
            character = html.unescape(reference[0])
            if character.isspace():
                self._space(reference.start())
            else:
                self._put(character, reference.start(), 0, len(reference[0]))
            start = reference.end()
        self._plain(source, start, end)

    def _plain(self, source: str, start: int, end: int) -> None:
        if self._kept:
            self._put(source[start:end], start, 1, 1)
            return
        for run in _RUN.finditer(source, start, end):
            if run[0].isspace():
                self._space(run.start())
            else:
                self._put(run[0], run.start(), 1, 1)

    def _put(self, text: str, start: int, step: int, width: int) -> None:
        if text and not self._silent:
            self._parts.append(text)
            self._places.append((len(text), start, step, width))
            self._length += len(text)
            self._tail = (self._tail + text[-len(_SECTION) :])[-len(_SECTION) :]

    def _space(self, at: int) -> None:
        if self._length and not self._tail[-1].isspace():
            self._put(" ", at, 0, 0)

    def _break(self, separator: str, at: int) -> None:
        """End a line, a paragraph or a section, if that has not been done."""
        have = len(self._tail) - len(self._tail.rstrip("\n"))
        if self._length and have < len(separator):
            self._put("\n" * (len(separator) - have), at, 0, 0)


def _is_not_main(name: str, attributes: str) -> bool:
    if name in _VOID or name in _WHOLE:
        return False
    return name in _NOT_MAIN or _NOT_MAIN_ATTRIBUTES.search(attributes) is not None


def _spread(
    lengths: NDArray[np.int64], starts: NDArray[np.int64], steps: NDArray[np.int64], widths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each character begins and ends, from the places of parts."""
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    begins = np.repeat(starts, lengths) + within * np.repeat(steps, lengths)
    return begins, begins + np.repeat(widths, lengths)
