"""Lines of documents: what of them Milvus is asked by.

Milvus compares JSON by rules of its own, which differ from version to version where a field is absent or of another
type. It is asked nothing but whether a line's array has a number, and whether one text of ours is below another:

- ``tokens`` has a hash of each word, of each path of the metadata, and of each path with its value;
- ``fields`` has, by a hash of the path, numbers and strings as texts whose order by code points is theirs;
- ``weights`` has the part of BM25 that is the document's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple
from unicodedata import category

from encoder_tools.errors import UnstorableError
from index.engines.milvus.mv_state import LONGEST, MOST_TOKENS
from index.lexical.bm25 import K1, B
from index.query.filters import Path

_FLOATS_ARE_WHOLE = 2**53
_DIMENSIONS = 2**32 - 4  # of a sparse vector
_EXPONENT = 10**6  # above any that is stored


class Term(NamedTuple):
    """What of a text is counted: a word, or the beginning that many words may have."""

    kind: str
    form: str

    @property
    def token(self) -> int:
        """Its number in ``tokens``."""
        return token(self.kind, self.form)

    @property
    def dimension(self) -> int:
        """Its number in ``weights``; others may have it too, so that weights are at least what they should be."""
        return 1 + self.token % _DIMENSIONS


def token(kind: str, *parts: str) -> int:
    """A number of 63 bits for one kind of thing and its name."""
    name = json.dumps([kind, *parts]).encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") >> 1


def key_of(stored_id: str) -> str:
    """What a line is looked up by: an id may have any characters, and be long."""
    return blake2b(stored_id.encode(), digest_size=16).hexdigest()


def counted(words: Sequence[str]) -> Counter[Term]:
    """How often a text has its words, and beginnings of words that a query may be: of scripts without spaces."""
    terms: Counter[Term] = Counter()
    for word, count in Counter(words).items():
        terms[Term("word", word)] += count
        if not word.isascii():
            for beginning in _beginnings(word):
                terms[Term("beginning", beginning)] += count
    return terms


def _beginnings(word: str) -> Iterator[str]:
    """The first character, and the first with the marks behind it."""
    yield word[:1]
    for end in range(2, len(word) + 1):
        if not category(word[end - 1]).startswith("M"):
            return
        yield word[:end]


def weight(count: float, length: float, average: float) -> float:
    """The part of BM25 that is a document's, for a term that it has so often."""
    return count * (K1 + 1) / (count + K1 * (1 - B + B * length / average))


def weights(terms: Mapping[Term, int], length: int, average: float) -> dict[int, float]:
    """A sparse vector; Milvus stores none that is empty, so that the dimension 0 is every document's."""
    made = {0: 1.0}
    for term, count in terms.items():
        made[term.dimension] = made.get(term.dimension, 0.0) + weight(count, length, average)
    return made


def field_key(path: Path) -> str:
    """What a path of the metadata is called in ``fields``."""
    return f"h{token('path', *path):016x}"


def fields(metadata: str) -> tuple[set[int], dict[str, str]]:
    """Of a document's metadata: ``tokens`` and ``fields``."""
    tokens: set[int] = set()
    orders: dict[str, str] = {}
    for path, value in _paths(json.loads(metadata), ()):
        tokens |= {token("path", *path), token("value", *path, exact(value))}
        order = ordered(value)
        if order is not None:
            orders[field_key(path)] = order
            tokens.add(token("order", *path))
        if isinstance(value, list):
            tokens |= {token("element", *path, exact(element)) for element in value}
    return tokens, orders


def _paths(value: dict[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for name, inner in value.items():
        yield (*path, name), inner
        if isinstance(inner, dict):
            yield from _paths(inner, (*path, name))


def exact(value: Any) -> str:
    """A JSON value as a text that is another's only if the two are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{exact(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(exact, value)) + "]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return ordered(value) or ""


def ordered(value: Any) -> str | None:
    """A number or a string as a text of plain characters, of which the order is theirs; None for other values."""
    if isinstance(value, str):
        return "s" + value.encode("utf-8", "surrogatepass").hex()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and abs(value) < _FLOATS_ARE_WHOLE:
        number = Decimal(repr(value))
    else:
        number = Decimal(int(value))
    if not number:
        return "n1"
    sign, digits, exponent = number.as_tuple()
    plain = "".join(map(str, digits)).rstrip("0")
    size = len(digits) + int(exponent) + _EXPONENT
    if not sign:
        return f"n2{size:07d}{plain}"
    return f"n0{2 * _EXPONENT - size:07d}{plain.translate(_NINES)}~"


_NINES = str.maketrans("0123456789", "9876543210")


def check_storable(ids: Sequence[str], texts: Sequence[str], metadata: Sequence[str]) -> None:
    """Check what Milvus cannot store and other engines can.

    :raises UnstorableError: for what is too long.
    """
    for name, values in (("Id", ids), ("Text", texts), ("Metadata", metadata)):
        for position, value in enumerate(values):
            if 4 * len(value) > LONGEST and len(value.encode()) > LONGEST:
                raise UnstorableError(
                    f"{name} {position} has {len(value.encode())} bytes, Milvus stores {LONGEST} at most. "
                    "Store texts in chunks (chunking), and long values elsewhere."
                )


def check_line(position: int, line: Mapping[str, Any]) -> None:
    """Check what was made of a document.

    :raises UnstorableError: if Milvus cannot store it.
    """
    if len(line["tokens"]) > MOST_TOKENS:
        raise UnstorableError(
            f"Text {position} has {len(line['tokens'])} different words and fields, Milvus stores {MOST_TOKENS} at "
            "most. Store it in chunks (chunking)."
        )
    size = len(json.dumps(line["fields"]))
    if size > LONGEST:
        raise UnstorableError(
            f"Metadata {position} has strings and numbers that take {size} bytes where filters look at them, Milvus "
            f"stores {LONGEST} at most. Store long values elsewhere."
        )
