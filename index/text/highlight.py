"""Spans of a query's words in a text."""

from __future__ import annotations

from collections.abc import Sequence

from index.text.words import Term, Word, Words

_NONE: tuple[tuple[int, int], ...] = ()


def highlights(text: str, words: Words, query: Sequence[Word]) -> tuple[tuple[int, int], ...]:
    """Spans of a text that have a term of a query: first character, and the one after the last; apart, ascending."""
    forms = {term.form for word in query for term in word.terms if not term.prefix}
    beginnings = tuple(term.form for word in query for term in word.terms if term.prefix)
    if not forms and not beginnings:
        return _NONE
    terms, aligned = words.located(text)
    spans: list[tuple[int, int]] = []
    for span in sorted(aligned.span(*match) for term in terms for match in _matches(term, forms, beginnings)):
        if spans and span[0] < spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], span[1])
        else:
            spans.append(span)
    return tuple(spans)


def _matches(term: Term, forms: set[str], beginnings: tuple[str, ...]) -> list[tuple[int, int]]:
    """What of a term's place in the normalized text matches."""
    if term.form in forms:
        return [(term.start, term.end)]
    return [(term.start, term.start + len(form)) for form in beginnings if term.form.startswith(form)]
