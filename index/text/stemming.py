"""Stemming by Snowball's own library.

Source: Porter, "Snowball: A language for stemming algorithms", 2001.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from encoder_tools.errors import InputError
from encoder_tools.extras import require_extra

_REMEMBERED = 100_000  # words: most of a text are among few


def stemmer(language: str) -> Callable[[str], str]:
    """What stems a lower-case word of a language.

    :raises InputError: if there is no such language, naming those that there are.
    :raises MissingExtraError: if the extra is not installed.
    """
    require_extra("stemming", "snowballstemmer")
    import snowballstemmer

    languages = sorted(snowballstemmer.algorithms())
    if language not in languages:
        raise InputError(f"stemming is {language!r}, expected one of {', '.join(languages)}, or none.")
    # a stemmer holds its word while it works: each call has one of its own
    return lru_cache(_REMEMBERED)(lambda word: str(snowballstemmer.stemmer(language).stemWord(word)))
