"""Long documents in pieces of so many tokens, cut where sections, paragraphs or sentences end.

A vector of a whole report is near to nothing in it; pieces are found, and say where in the report they are. The
cutting is semantic-text-splitter's (Unicode's sentence and word boundaries, Markdown's structure).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import InputError
from encoder_tools.protocols import Tokenized
from index.documents.markup import TEXT_KINDS, TextKind, read_markup
from index.documents.source_code import CODE_KINDS, grammar
from index.documents.source_map import Heading, SourceText

_HEADING_SHARE = 8  # of a piece's tokens, one in these is kept free for a heading that would stand alone
_LEAST = 8
_WINDOW = 16_384  # characters


@dataclass(frozen=True)
class Chunking:
    """How documents are cut.

    :ivar tokens: of a piece at most, by the model's own tokenizer, without its special tokens.
    :ivar overlap: of them, at most, that a piece has in common with the one before.
    :ivar kind: of the documents: "text", "markdown", "html", "pages", text with a form feed between its pages, or the
        language of source code (extra ``code``), which is cut between its definitions: "python", "javascript", and
        others of :data:`index.documents.source_code.CODE_KINDS`.
    :ivar main_text: leave out navigation, footers and cookie banners of HTML.

    Example:
        >>> from index import Chunking
        >>> Chunking(tokens=128, overlap=16, kind="markdown").tokens
        128
    """

    tokens: int = 256
    overlap: int = 32
    kind: TextKind = "text"
    main_text: bool = False

    def __post_init__(self) -> None:
        checked_integer(self.tokens, "tokens", _LEAST)
        checked_integer(self.overlap, "overlap", 0)
        if self.overlap * 2 > self.tokens:
            raise InputError(f"overlap is {self.overlap} of {self.tokens} tokens, expected half of them at most.")
        if self.kind not in TEXT_KINDS:
            raise InputError(f"kind is {self.kind!r}, expected one of {', '.join(TEXT_KINDS)}.")


class Chunk(NamedTuple):
    """A piece of a document.

    :ivar text: of HTML, without its tags.
    :ivar start: where it begins in the source, and ``end`` where it ends, in characters.
    :ivar headings: those that it stands under, the outermost first.
    :ivar page: that it begins on, from 1, of a document with pages.
    """

    text: str
    start: int
    end: int
    headings: tuple[str, ...]
    page: int | None = None


class Splitter:
    """Cuts documents as a :class:`Chunking` says.

    :param encoder: whose tokens are counted.
    :raises InputError: if it has no tokenizer to count with, or a piece would be longer than the model reads.

    Example:
        >>> from encoder_tools import OnnxEncoder
        >>> from index import Chunking, Splitter
        >>> splitter = Splitter(Chunking(tokens=32, overlap=0, kind="markdown"), OnnxEncoder())
        >>> [chunk.headings for chunk in splitter.split(chr(10).join(["# Cards", "", "A lost card is blocked."]))]
        [('Cards',)]
    """

    def __init__(self, chunking: Chunking, encoder: Any) -> None:
        if not isinstance(chunking, Chunking):
            raise InputError(f"chunking is a {type(chunking).__name__}, expected a Chunking, such as Chunking(256).")
        self.chunking = chunking
        if not isinstance(encoder, Tokenized):
            raise InputError(
                f"A {type(encoder).__name__} has no tokenizer to count tokens with. Cut the texts before they are "
                "stored, or open the collection with an OnnxEncoder."
            )
        room = encoder.document_room
        if room is not None and chunking.tokens > room:
            raise InputError(f"tokens is {chunking.tokens}, but the model reads {room} of a document. Lower it.")
        self._file = encoder.tokenizer_file

    def split(self, source: str) -> list[Chunk]:
        """The pieces of a document in their order; none of one without words."""
        source_text = read_markup(source, self.chunking.kind, main_text=self.chunking.main_text)
        spans = [(start, end) for start, end in self._spans(source_text.text) if source_text.text[start:end].strip()]
        spans = [*spans[:1], *(after for before, after in pairwise(spans) if after[1] > before[1])]
        spans = self._with_headings(spans, source_text)
        return list(_chunks(spans, source_text))

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Cut window by window: the splitter's time grows with the square of a paragraph's length.

        The last piece of a window might have continued: the next window begins with it.
        """
        at, width = 0, _WINDOW
        while at < len(text):
            pieces = self._cutter.chunk_indices(text[at : at + width])
            last = at + width >= len(text)
            if not last and (not pieces or not pieces[-1][0]):
                width *= 2  # there is nothing in it to cut it at
                continue
            for start, piece in pieces if last else pieces[:-1]:
                yield at + start, at + start + len(piece)
            if last:
                return
            at, width = at + pieces[-1][0], _WINDOW

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _cutter(self) -> Any:
        from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

        chunking = self.chunking
        if chunking.kind in CODE_KINDS:
            language = grammar(chunking.kind)
            spare = chunking.tokens // _HEADING_SHARE
            return CodeSplitter.from_huggingface_tokenizer(
                language, self._tokenizer, chunking.tokens - spare, chunking.overlap
            )
        kind = MarkdownSplitter if chunking.kind == "markdown" else TextSplitter
        spare = 0 if chunking.kind in ("text", "pages") else chunking.tokens // _HEADING_SHARE
        return kind.from_huggingface_tokenizer(self._tokenizer, chunking.tokens - spare, chunking.overlap)

    def _with_headings(self, spans: list[tuple[int, int]], source_text: SourceText) -> list[tuple[int, int]]:
        """Headings that stand alone go to what is under them, as far as there is room."""
        joined: list[tuple[int, int]] = []
        for span in spans:
            if joined and _is_heading(joined[-1], source_text):
                both = min(joined[-1][0], span[0]), span[1]
                if self._count(source_text.text[slice(*both)]) <= self.chunking.tokens:
                    joined[-1] = both
                    continue
            joined.append(span)
        return joined

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _is_heading(span: tuple[int, int], source_text: SourceText) -> bool:
    """Whether nothing but headings is in a span."""
    at, end = span
    first = bisect_right(source_text.headings, at, key=lambda heading: heading.end)
    for position in range(first, len(source_text.headings)):
        heading = source_text.headings[position]
        if heading.start >= end or source_text.text[at : heading.start].strip():
            break
        at = heading.end
    return at > span[0] and not source_text.text[at:end].strip()


def _chunks(spans: list[tuple[int, int]], source_text: SourceText) -> Iterator[Chunk]:
    path: list[Heading] = []
    coming = iter(source_text.headings)
    following = next(coming, None)
    seen = 0
    for start, end in spans:
        new = max(start, seen)  # what a piece has in common with the one before stands under that one's headings
        new += len(source_text.text[new:end]) - len(source_text.text[new:end].lstrip())
        while following is not None and following.start <= new:
            path = [heading for heading in path if heading.level < following.level] + [following]
            following = next(coming, None)
        text = source_text.text[start:end]
        page = source_text.page(start + len(text) - len(text.lstrip()))
        yield Chunk(
            text, *source_text.source(start, end), tuple(heading.title for heading in path if heading.title), page
        )
        seen = end
