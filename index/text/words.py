r"""Words of a text: one rule for stored texts, queries, the filter ``$text`` and highlights.

**Characters.** NFKC (ligatures, full-width and half-width forms), full case folding, digits of all scripts as 0 to 9.
Soft hyphens, joiners, direction marks and variation selectors are dropped. Marks over Latin, Greek, Cyrillic, Hebrew
and Arabic letters are dropped (``é`` is ``e``, ``ё`` is ``е``, points and vowels go), except for the breve that makes
``й`` and ``ў`` letters of their own; marks of all other scripts belong to their words. Letters that differ by a stroke
alone are their plain letter (``ø``, ``ł``, ``đ``, ``ı``), Arabic and Persian forms of one letter are one.

**Words** are letters, digits and their marks. Words that are joined by one of ``_ - . ' @`` or by a change of case are
a compound, which is found by its parts and as a whole: ``user_id`` and ``UserId`` by ``user``, ``id`` and ``userid``;
``e-mail`` by ``email``; ``don't`` by ``dont``. A dot or an ``@`` stays in the whole (``v1.2.3``, ``ann@x.org``), but
not between single letters (``U.S.`` is ``us``). ``+`` and ``#`` behind a word belong to it: ``C++`` and ``C#`` are
found by ``C`` too, but ``C++`` finds no ``C``.

**Text without spaces** (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese and others): every two neighboring
characters are a term, so that any part of a run is found by what it consists of; a character is a letter with its
marks. Measured on 20,000 Chinese and Japanese texts (4.7 MB): 5.3 MB of index, 0.07 ms the median of 2 to 4 characters;
FTS5's own trigrams take 7.2 MB and find nothing for fewer than three.

Sources: Unicode Standard Annexes 15 (normalization) and 29 (text segmentation); Nie, Gao, Zhang and Zhou, "On the Use
of Words and N-grams for Chinese Information Retrieval", 2000, for two characters as a term.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from index.text.stemming import stemmer

_RULES = 1  # raised with every change of what follows: stored texts are then indexed again
_LONGEST_WHOLE = 100  # characters of a compound that is a term of its own
_WHOLE_BLOCK = 500  # characters from which a range of a script without spaces holds nothing but its letters

# Scripts that put no spaces between words; Korean does, but its particles stand at the end of words.
_SPACELESS = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F), (0x3005, 0x3007), (0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x312F),
    (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA48C), (0xA960, 0xA97C),
    (0xA980, 0xA9FF), (0xAA60, 0xAADF), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFD),
)  # fmt: skip
_PLAIN_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC", "HEBREW", "ARABIC")  # whose letters do without their marks
_LAST_PLAIN = 0x2000  # where the blocks of these scripts end; what comes later is Latin and listed
_MORE_LATIN = r"\u2c60-\u2c7f\ua640-\ua69d\ua720-\ua7ff\uab30-\uab6f"
_SHORT_I = {"\u0438\u0306": "\u0439", "\u0443\u0306": "\u045e"}  # й and ў
_LETTERS = str.maketrans({
    "ı": "i", "ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe",
    "\u0649": "\u064a", "\u06cc": "\u064a", "\u06a9": "\u0643", "\u0629": "\u0647",
})  # fmt: skip
_TATWEEL = "\u0640"  # stretches Arabic words
_DROPPED = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x180B, 0x180F), (0x200C, 0x200F),
    (0x202A, 0x202E), (0x2060, 0x206F), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xE0000, 0xE01FF),
)  # fmt: skip
_BREAK = "\u200b"  # the zero-width space: a word may end there
_CONNECTORS = rf"(?:_+|[\-\u2010.'\u2019@]|{_BREAK}+)"
_PIECE = re.compile(rf"[^_\-\u2010.'\u2019@{_BREAK}]+")
_LEFT_OUT = re.compile(rf"[_\-\u2010'\u2019{_BREAK}]")
_SUFFIX = r"[+#]+(?![^\W_])"
# Jamo and half-width voice marks: no marks by their category, but they join the letter before them under NFKC.
_JOINING = r"\u1160-\u11ff\u3131-\u318e\ud7b0-\ud7ff\uff9e-\uffdc"


class Term(NamedTuple):
    """A term of the index, and where it is in the normalized text.

    :ivar prefix: of a query for one character of a run without spaces: terms that begin so are meant.
    """

    form: str
    start: int
    end: int
    prefix: bool = False


class Word(NamedTuple):
    """A word: all of its parts, or the whole.

    :ivar parts: terms that must all be there; one behind the other where ``phrase`` says so.
    :ivar whole: a compound as one term.
    """

    parts: tuple[Term, ...]
    whole: Term | None = None
    phrase: bool = False

    @property
    def terms(self) -> tuple[Term, ...]:
        """All of them."""
        return self.parts if self.whole is None else (*self.parts, self.whole)

    def stands_in(self, stored: Sequence[str]) -> bool:
        """Whether the parts stand one behind the other in the terms of a text."""
        forms = [part.form for part in self.parts]
        return any(list(stored[at : at + len(forms)]) == forms for at in range(len(stored) - len(forms) + 1))


class Words:
    """The rule, with or without stemming. Safe for threads.

    :param stemming: a language of Snowball ("english", "german", ...), whose endings are cut off words; None for none.
    :raises InputError: for a language that there is no stemmer of.
    :raises MissingExtraError: if the stemmer is not installed.
    """

    def __init__(self, stemming: str | None = None) -> None:
        self.stemming = stemming
        self._stem: Callable[[str], str] | None = None if stemming is None else stemmer(stemming)

    @property
    def rules(self) -> str:
        """Names what terms depend on; texts that were indexed by other rules are indexed again."""
        return f"{_RULES}/{unicodedata.unidata_version}/{self.stemming or ''}"

    def stored(self, text: str) -> list[str]:
        """Terms of a text that is stored, in their order; the whole of a compound stands behind its parts."""
        return [term.form for word in self._words(normalized(text), query=False) for term in word.terms]

    def query(self, text: str) -> list[Word]:
        """Words that a query asks for, each once."""
        by_terms = {tuple(word.terms): word for word in map(_placeless, self._words(normalized(text), query=True))}
        return list(by_terms.values())

    def located(self, text: str) -> tuple[list[Term], Aligned]:
        """Terms of a text that is stored, and what leads from the normalized text back to it."""
        aligned = Aligned.of(text)
        return [term for word in self._words(aligned.text, query=False) for term in word.terms], aligned

    def _words(self, text: str, *, query: bool) -> Iterator[Word]:
        for run in _patterns().run.finditer(text):
            if run.lastgroup == "spaceless":
                yield _neighbors(run, query=query)
            else:
                yield self._compound(run[0], run.start(), query=query)

    def _compound(self, text: str, start: int, *, query: bool) -> Word:
        if text.isalnum() and (text[1:].islower() or text.isupper() or len(text) == 1):  # nearly all words
            return Word((Term(self._form(text), start, start + len(text)),))
        atoms = _atoms(text)
        parts: list[Term] = []
        for at, letters, suffix in atoms:
            form, first = self._form(letters), start + at
            if suffix:
                parts.append(Term(form + suffix, first, first + len(letters) + len(suffix)))
            if not (suffix and query):  # who asks for C++ does not mean C
                parts.append(Term(form, first, first + len(letters)))
        whole = _whole(text, atoms) if len(atoms) > 1 else ""
        if not whole or len(whole) > _LONGEST_WHOLE:
            return Word(tuple(parts))
        return Word(tuple(parts), Term(self._form(whole), start, start + len(text)))

    def _form(self, letters: str) -> str:
        if letters.isascii():
            folded = letters.lower()
            return folded if self._stem is None else self._stem(folded)
        folded = unicodedata.normalize("NFC", letters.casefold())
        return _plain(folded if self._stem is None else self._stem(folded))


@cache
def words_by(stemming: str | None) -> Words:
    """The rule of a language; see :class:`Words`."""
    return Words(stemming)


class Aligned(NamedTuple):
    """A normalized text, and where each of its characters begins and ends in the text that it was made of."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, text: str) -> Aligned:
        """Normalize character by character, each with its marks: nothing joins across these."""
        if text.isascii():
            return cls(text, range(len(text)), range(1, len(text) + 1))
        shape, starts, ends = [], [], []
        for part in _patterns().character.finditer(text):
            made = normalized(part[0])
            shape.append(made)
            starts += [part.start()] * len(made)
            ends += [part.end()] * len(made)
        return cls("".join(shape), starts, ends)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of the normalized text is in the text; it is not empty."""
        return self.starts[start], self.ends[end - 1]


def normalized(text: str) -> str:
    """NFKC, with digits of all scripts as 0 to 9, without what cannot be seen; the case is kept, it tells compounds."""
    if text.isascii():
        return text
    dropped, digits = _tables()
    return unicodedata.normalize("NFKC", text.translate(dropped)).translate(digits)


def _placeless(word: Word) -> Word:
    parts = tuple(term._replace(start=0, end=0) for term in word.parts)
    return Word(parts, word.whole and word.whole._replace(start=0, end=0), word.phrase)


def _plain(word: str) -> str:
    """A folded word without marks, where its script does without."""
    marked = unicodedata.normalize("NFD", word)
    for decomposed, letter in _SHORT_I.items():
        marked = marked.replace(decomposed, letter)
    plain = unicodedata.normalize("NFC", _patterns().marked.sub(r"\1", marked).translate(_LETTERS))
    return plain.replace(_TATWEEL, "") or plain


def _neighbors(run: re.Match[str], *, query: bool) -> Word:
    """Terms of a run without spaces: each two neighbors, and the last one alone, so that each begins a term."""
    units = list(_patterns().unit.finditer(run[0]))
    if query and len(units) == 1:
        return Word((_of_units(run, units[0], units[0])._replace(prefix=True),))
    pairs = [_of_units(run, *pair) for pair in pairwise(units)]
    return Word(tuple(pairs), phrase=True) if query else Word((*pairs, _of_units(run, units[-1], units[-1])))


def _of_units(run: re.Match[str], first: re.Match[str], last: re.Match[str]) -> Term:
    form = first[0] if first is last else first[0] + last[0]
    return Term(form, run.start() + first.start(), run.start() + last.end())


def _atoms(text: str) -> list[tuple[int, str, str]]:
    """Where each part of a compound begins, its letters, and the ``+`` and ``#`` behind them."""
    atoms = []
    for piece in _PIECE.finditer(text):
        letters = piece[0].rstrip("+#")
        cuts = [0, *(cut.start() for cut in _patterns().case.finditer(letters)), len(letters)]
        for first, last in pairwise(cuts):
            suffix = piece[0][last:] if last == len(letters) else ""
            atoms.append((piece.start() + first, letters[first:last], suffix))
    return atoms


def _whole(text: str, atoms: Sequence[tuple[int, str, str]]) -> str:
    """A compound as one word: with its dots and ``@``, unless it is letters with dots between them."""
    if all(len(letters) == 1 and not suffix for _, letters, suffix in atoms):
        return "".join(letters for _, letters, _ in atoms)
    return _LEFT_OUT.sub("", text)


class _Patterns(NamedTuple):
    """:ivar run: a compound, or a run of a script without spaces.

    :ivar case: where a change of case begins a part of a compound.
    :ivar unit: a character of a run without spaces, with its marks.
    :ivar marked: a letter that does without its marks, and these.
    :ivar character: a character with all that joins it under NFKC.
    """

    run: re.Pattern[str]
    case: re.Pattern[str]
    unit: re.Pattern[str]
    marked: re.Pattern[str]
    character: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    """Made once, of what this Python's Unicode says of each character; it takes a few hundredths of a second."""
    kinds = {code: unicodedata.category(chr(code)) for code in (*range(0x1FFFF), *range(0xE0100, 0xE01F0))}
    marks = _inside(code for code, kind in kinds.items() if kind[0] == "M")
    upper = _inside(code for code, kind in kinds.items() if kind in ("Lu", "Lt"))
    lower = _inside(code for code, kind in kinds.items() if kind == "Ll")
    spaceless = "".join(
        _span(low, high)
        if high - low > _WHOLE_BLOCK
        else _inside(code for code in range(low, high + 1) if kinds[code][0] in "LMN")
        for low, high in _SPACELESS
    )
    joined = "".join(_span(*span) for span in _DROPPED) + marks + _JOINING
    plain = _inside(
        code for code in range(_LAST_PLAIN) if unicodedata.name(chr(code), "").startswith(_PLAIN_SCRIPTS)
        and kinds[code][0] == "L"
    )  # fmt: skip
    # one class each, not groups that repeat: a run may have millions of characters
    letters = _inside(
        code for code, kind in kinds.items() if kind[0] == "M" or (chr(code).isalnum() and not _is_spaceless(code))
    )
    word = rf"[{letters}]+(?:{_SUFFIX})?"
    spaced = rf"(?P<compound>{word}(?:{_CONNECTORS}{word})*)"
    return _Patterns(
        run=re.compile(rf"{spaced}|(?P<spaceless>[{spaceless}][{spaceless}{marks}{_BREAK}]*)"),
        case=re.compile(rf"(?<=[{lower}])(?=[{upper}])|(?<=[{upper}])(?=[{upper}][{lower}])"),
        unit=re.compile(rf"[^{marks}{_BREAK}][{marks}]*|^[{marks}]+"),
        marked=re.compile(rf"([{plain}{_MORE_LATIN}])[{marks}]+"),
        character=re.compile(rf"[^{joined}][{joined}]*|^[{joined}]+"),
    )


@cache
def _tables() -> tuple[dict[int, str | None], dict[int, str | None]]:
    """What is dropped before NFKC, and digits after it."""
    dropped: dict[int, str | None] = {code: None for low, high in _DROPPED for code in range(low, high + 1)}
    codes = (code for code in range(0x80, 0x1FFFF) if chr(code).isdecimal())
    return dropped, {code: str(unicodedata.decimal(chr(code))) for code in codes}


def _is_spaceless(code: int) -> bool:
    return any(low <= code <= high for low, high in _SPACELESS)


def _inside(codes: Iterable[int]) -> str:
    """Code points, ascending, as the inside of a character class."""
    spans: list[tuple[int, int]] = []
    for code in codes:
        if spans and spans[-1][1] == code - 1:
            spans[-1] = spans[-1][0], code
        else:
            spans.append((code, code))
    return "".join(_span(*span) for span in spans)


def _span(low: int, high: int) -> str:
    return rf"\U{low:08x}-\U{high:08x}"
