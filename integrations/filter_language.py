"""What the filters of frameworks have in common with ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from encoder_tools.errors import InputError

Where = Mapping[str, Any]
COMPARISONS = {"==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
"""Operators of frameworks, and ours."""


def compared(field: str, operator: str, value: Any) -> Where:
    """One condition.

    :param field: a path; see :mod:`index.query.filters`.
    :param operator: with its dollar.
    :raises InputError: for a field that would be an operator.
    """
    if not field or field.startswith("$"):
        raise InputError(f"The field of a filter is {field!r}, expected a name without a dollar in front.")
    return {field: {operator: value}}


def every(parts: Sequence[Where]) -> Where:
    """All of them match."""
    return parts[0] if len(parts) == 1 else {"$and": list(parts)}


def one_of(parts: Sequence[Where]) -> Where:
    """One of them matches, or more."""
    return parts[0] if len(parts) == 1 else {"$or": list(parts)}


def absent(field: str) -> Where:
    """The field is not there, or null."""
    return {"$or": [compared(field, "$exists", False), compared(field, "$eq", None)]}


def plain(name: str) -> str:
    """A name as a path of one step, whatever dots it has."""
    return name.replace(".", "\\.")
