"""The scripts that languages are written in."""

from __future__ import annotations

from collections.abc import Iterable

from encoder_tools.errors import InputError

_SCRIPTS = {
    "LATIN": "en de fr es it pt nl sv da no nb nn fi is et lv lt pl cs sk sl hr bs ro hu sq tr az uz vi id ms tl sw af "
    "ca gl eu ga cy mt lb oc la eo",
    "CYRILLIC": "ru uk be bg mk sr kk ky mn tg",
    "GREEK": "el",
    "ARABIC": "ar fa ur ps ckb",
    "HEBREW": "he yi",
    "DEVANAGARI": "hi mr ne sa",
    "BENGALI": "bn as",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "THAI": "th",
    "LAO": "lo",
    "MYANMAR": "my",
    "KHMER": "km",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "ETHIOPIC": "am ti",
    "HANGUL": "ko",
    "CJK": "zh ja",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
}


def scripts_of(languages: Iterable[str]) -> set[str]:
    """Scripts of some languages, as :func:`encoder_tools.trimming.pieces.script_of` names them.

    :param languages: codes of two letters (ISO 639-1), such as "de".
    :raises InputError: if a code is not known.
    """
    result = {"COMMON", "LATIN"}  # numbers, names and addresses are in every text
    for language in languages:
        scripts = {script for script, codes in _SCRIPTS.items() if language.lower() in codes.split()}
        if not scripts:
            known = ", ".join(sorted({code for codes in _SCRIPTS.values() for code in codes.split()}))
            raise InputError(f"{language!r} is no language code that is known here. Known are {known}.")
        result |= scripts
    return result
