r"""Filters over metadata: a small JSON language, read into a tree.

    {"lang": "en"}                                  the field equals a value
    {"year": {"$gte": 2000, "$lt": 2010}}           both conditions hold
    {"$or": [{"tags": {"$contains": "new"}}, {"author.name": {"$in": ["Ann", "Bo"]}}]}

``$eq $ne $in $nin``: JSON equality, where 1 and 1.0 are equal, and 1 and true are not; a missing field equals nothing.
``$gt $gte $lt $lte``: between numbers, or between strings (by code point). ``$exists``: whether the field is there, be
it null. ``$contains``: an array has the element. ``$and $or $not`` join filters; several fields in one object must all
match. ``$text`` in place of a field: the document's text has all of these words, folded as the search by words folds
them. A dot leads into an object, ``\.`` is a dot in a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from encoder_tools.errors import InputError

DEEPEST = 32
MOST_CONDITIONS = 1000
_COMPARISONS = ("$gt", "$gte", "$lt", "$lte")
_OPERATORS = ("$eq", "$ne", "$in", "$nin", *_COMPARISONS, "$exists", "$contains")
_DOT = re.compile(r"(?<!\\)\.")

Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """One field, one operator.

    :ivar operator: without its dollar: "eq", "in", "gt", "gte", "lt", "lte", "exists" or "contains"; "ne" and "nin" are
        read as the opposites of "eq" and "in".
    :ivar value: of ``in``, a tuple.
    """

    path: Path
    operator: str
    value: Any


@dataclass(frozen=True)
class Words:
    """The text has all of these words."""

    text: str


@dataclass(frozen=True)
class All:
    """Every part matches; of no parts, everything does."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Some:
    """One part or more matches."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part does not match."""

    part: Filter


Filter: TypeAlias = Condition | Words | All | Some | Not


def read_filter(value: Any) -> Filter:
    """Read a filter.

    :raises InputError: naming what is wrong, or if it is nested too deeply or has too many conditions.
    """
    counted = _Counter()
    return _filter(value, 0, counted)


def read_path(name: Any) -> Path:
    """The path of a field, such as ("author", "name") of "author.name".

    :raises InputError: if it is no name.
    """
    if not isinstance(name, str) or not name or name.startswith("$"):
        raise InputError(f"The field is {name!r}, expected a name of the metadata.")
    return tuple(part.replace("\\.", ".") for part in _DOT.split(name))


def fields_of(condition: Filter) -> set[Path]:
    """The fields that a filter looks at."""
    if isinstance(condition, Condition):
        return {condition.path}
    if isinstance(condition, Words):
        return set()
    parts = (condition.part,) if isinstance(condition, Not) else condition.parts
    return {path for part in parts for path in fields_of(part)}


def has_no_condition(condition: Filter) -> bool:
    """Whether a filter asks for nothing, so that it matches all documents or none, whatever they are."""
    if isinstance(condition, Condition | Words):
        return False
    parts = (condition.part,) if isinstance(condition, Not) else condition.parts
    return all(map(has_no_condition, parts))


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        self.count += 1
        if self.count > MOST_CONDITIONS:
            raise InputError(f"The filter has more than {MOST_CONDITIONS} conditions. Use $in for lists of values.")


def _filter(value: Any, depth: int, counted: _Counter) -> Filter:
    if depth > DEEPEST:
        raise InputError(f"The filter is nested deeper than {DEEPEST} levels. Simplify it.")
    if not isinstance(value, Mapping):
        raise InputError(f"The filter has {str(value)[:40]!r}, expected an object such as {{'lang': 'en'}}.")
    parts = tuple(_entry(key, inner, depth, counted) for key, inner in value.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _entry(key: Any, value: Any, depth: int, counted: _Counter) -> Filter:
    if not isinstance(key, str) or not key:
        raise InputError(f"The filter has the field {key!r}, expected a name.")
    if key == "$text":
        counted.add()
        if not isinstance(value, str):
            raise InputError(f"$text of the filter is {str(value)[:40]!r}, expected words.")
        return Words(value)
    if key == "$not":
        return Not(_filter(value, depth + 1, counted))
    if key in ("$and", "$or"):
        if not isinstance(value, list | tuple):
            raise InputError(f"{key} of the filter is {str(value)[:40]!r}, expected a list of filters.")
        parts = tuple(_filter(part, depth + 1, counted) for part in value)
        return All(parts) if key == "$and" else Some(parts)
    if key.startswith("$"):
        raise InputError(f"The filter has {key!r} where a field stands, expected a name, $text, $and, $or or $not.")
    path = read_path(key)
    if not isinstance(value, Mapping):
        counted.add()
        return Condition(path, "eq", _checked("$eq", value, key))
    if not value:
        raise InputError(f"{key!r} of the filter has no condition, expected one of {', '.join(_OPERATORS)}.")
    conditions = tuple(_condition(path, name, inner, key, counted) for name, inner in value.items())
    return conditions[0] if len(conditions) == 1 else All(conditions)


def _condition(path: Path, name: Any, value: Any, key: str, counted: _Counter) -> Filter:
    if name not in _OPERATORS:
        raise InputError(f"{key!r} of the filter has {name!r}, expected one of {', '.join(_OPERATORS)}.")
    counted.add()
    value = _checked(name, value, key)
    if name in ("$ne", "$nin"):
        return Not(Condition(path, "eq" if name == "$ne" else "in", value))
    return Condition(path, name[1:], value)


def _checked(name: str, value: Any, key: str) -> Any:
    fits: Callable[[Any], bool] = _is_json
    expected = "a JSON value"
    if name in ("$in", "$nin"):
        fits, expected = (
            lambda operand: isinstance(operand, list | tuple) and all(map(_is_json, operand)),
            "a list of values",
        )
    elif name == "$exists":
        fits, expected = lambda operand: isinstance(operand, bool), "true or false"
    elif name in _COMPARISONS:
        fits, expected = lambda operand: isinstance(operand, str) or _is_number(operand), "a number or a string"
    if not fits(value):
        raise InputError(f"{name} of {key!r} in the filter is {str(value)[:40]!r}, expected {expected}.")
    return tuple(value) if name in ("$in", "$nin") else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_json(value: Any, depth: int = 0) -> bool:
    if value is None or isinstance(value, str | bool) or _is_number(value):
        return True
    if depth > DEEPEST:
        return False
    if isinstance(value, list | tuple):
        return all(_is_json(item, depth + 1) for item in value)
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and _is_json(item, depth + 1) for name, item in value.items()
    )
