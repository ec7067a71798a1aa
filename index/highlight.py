"""Where in a text the words of a query are."""

from __future__ import annotations

import re

from index.lexical import words_of

# a letter or digit, then more of them and the marks that belong to them: "é" may be written as two characters
_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*")


def highlights(text: str, words: frozenset[str]) -> tuple[tuple[int, int], ...]:
    """Places of a text's words that are among folded ``words``: first character, and the one after the last."""
    found = []
    for match in _WORD.finditer(text):
        if any(word in words for word in words_of(match.group())):
            found.append(match.span())
    return tuple(found)
