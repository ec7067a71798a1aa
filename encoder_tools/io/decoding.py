"""Text files as lines: encoding by byte order mark, by name, or UTF-8."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoder_tools.errors import FileCorruptError, InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 4096
_NUL_SHARE = 0.2  # of the bytes on one side of pairs, from which text without a mark is UTF-16


def opener(path: Path) -> Any:
    """What opens a file: gzip's where the name ends in .gz."""
    return gzip.open if path.suffix.lower() == ".gz" else open


def lines_of(path: Path, encoding: str | None = None) -> Iterator[str]:
    """Lines with their ends, a few in memory at a time.

    :param encoding: None looks for a byte order mark or the zeros of UTF-16, and else takes UTF-8.
    :raises FileCorruptError: if it is not text in that encoding; what to do is said.
    :raises InputError: if there is no such encoding.
    """
    chosen = checked_encoding(encoding) if encoding is not None else None
    try:
        with opener(path)(path, "rb") as file:
            chosen = chosen or _told_by(file.read(_LOOKED_AT))
        with opener(path)(path, "rt", encoding=chosen, newline="") as file:
            yield from file
    except UnicodeError as error:
        raise FileCorruptError(
            f"{path} is not text in {chosen.upper() if chosen else 'UTF-8'} ({error}). {_advice(path)}"
        ) from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise FileCorruptError(f"{path} cannot be read ({error}). Restore it.") from None


def checked_encoding(name: str) -> str:
    """The name of an encoding of text.

    :raises InputError: if there is none of this name.
    """
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise InputError(f"Encoding {name!r} is not known, expected a name such as utf-8, cp1252 or utf-16.") from None


def _told_by(first: bytes) -> str:
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            return encoding
    half = max(1, len(first) // 2)
    if len(first) > 3:
        if first[1::2].count(0) > _NUL_SHARE * half and not first[::2].count(0):
            return "utf-16-le"
        if first[::2].count(0) > _NUL_SHARE * half and not first[1::2].count(0):
            return "utf-16-be"
    return "utf-8"


def _advice(path: Path) -> str:
    """What to do with a file that is in another encoding than was taken."""
    try:
        with opener(path)(path, "rb") as file:
            data = file.read(2**20)
        data.decode("cp1252")
        return "It may be Windows' Western encoding: name it with --encoding cp1252, or convert the file to UTF-8."
    except (OSError, EOFError, ValueError, zlib.error):
        return "Name its encoding with --encoding, or convert it to UTF-8."
