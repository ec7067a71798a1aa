"""Filters as conditions of Milvus, which match the documents that the embedded engine's match.

No condition is ever unknown: see :mod:`index.engines.milvus.mv_rows` for what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from index.engines.milvus.mv_rows import exact, field_key, ordered, token
from index.query.filters import All, Condition, Filter, Not, Words

EVERYTHING, NOTHING = "row >= 0", "row < 0"
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_AT_ONCE = 1000


def compiled(condition: Filter, with_words: Callable[[str], str]) -> str:
    """A filter for the lines of documents.

    :param with_words: gives the condition of lines that have all words of a text.
    """
    if isinstance(condition, Words):
        return with_words(condition.text)
    if isinstance(condition, Condition):
        return _leaf(condition)
    if isinstance(condition, Not):
        return f"(not {compiled(condition.part, with_words)})"
    parts = [compiled(part, with_words) for part in condition.parts]
    both = isinstance(condition, All)
    return _joined(parts, "and") if both else _joined(parts, "or")


def has_any(tokens: Sequence[int]) -> str:
    """Lines that have one of some tokens or more."""
    parts = [tokens[start : start + _AT_ONCE] for start in range(0, len(tokens), _AT_ONCE)]
    return _joined([f"array_contains_any(tokens, {list(part)})" for part in parts], "or")


def has_all(tokens: Sequence[int]) -> str:
    """Lines that have all of some tokens."""
    return f"array_contains_all(tokens, {list(tokens)})" if tokens else EVERYTHING


def among(field: str, values: Sequence[int] | Sequence[str]) -> str:
    """Lines whose field is one of some numbers, or texts of plain characters."""
    listed = ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)
    return f"{field} in [{listed}]" if values else NOTHING


def both(*conditions: str) -> str:
    """Lines that match all conditions."""
    return _joined([condition for condition in conditions if condition != EVERYTHING], "and")


def _joined(parts: Sequence[str], word: str) -> str:
    if not parts:
        return EVERYTHING if word == "and" else NOTHING
    return parts[0] if len(parts) == 1 else "(" + f" {word} ".join(parts) + ")"


def _leaf(condition: Condition) -> str:
    path, value = condition.path, condition.value
    if condition.operator == "exists":
        there = has_any([token("path", *path)])
        return there if value else f"(not {there})"
    if condition.operator == "eq":
        return has_any([token("value", *path, exact(value))])
    if condition.operator == "in":
        return has_any([token("value", *path, exact(one)) for one in value])
    if condition.operator == "contains":
        return has_any([token("element", *path, exact(value))])
    order = ordered(value) or ""
    field, kind = f'fields["{field_key(path)}"]', order[:1]
    # of lines without the field the comparison may be unknown, and so would be its negation: the token says where it is
    bounds = {"g": f'{field} < "{chr(ord(kind) + 1)}"', "l": f'{field} >= "{kind}"'}[condition.operator[0]]
    compared = f'{field} {_COMPARE[condition.operator]} "{order}"'
    return f"({has_any([token('order', *path)])} and {compared} and {bounds})"
