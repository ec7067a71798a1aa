"""Haystack's filters as ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from encoder_tools.errors import InputError
from encoder_tools.extras import require_extra
from index.query.filters import read_filter
from integrations.filter_language import COMPARISONS, Where, absent, compared, every, one_of

require_extra("haystack", "haystack")
from haystack.errors import FilterError  # noqa: E402

_FIELDS = ("id",)
_OTHER_FIELDS = ("content", "blob", "score", "embedding", "sparse_embedding")
_NOTHING: Where = {"id": {"$in": []}}


def where_of(filters: Mapping[str, Any] | None) -> Where | None:
    """Ours; None for none.

    :raises FilterError: naming what is missing or wrong.
    """
    if not filters:
        return None
    try:
        where = _of(filters)
        read_filter(where)
    except InputError as error:
        raise FilterError(str(error)) from error
    return where


def _of(filters: Any) -> Where:
    if not isinstance(filters, Mapping):
        raise FilterError(f"A filter is {filters!r}, expected a dictionary.")
    if "field" in filters:
        return _condition(filters)
    for name in ("operator", "conditions"):
        if name not in filters:
            raise FilterError(f"'{name}' is missing in the filter {dict(filters)}.")
    operator, conditions = filters["operator"], filters["conditions"]
    if not isinstance(conditions, list | tuple):
        raise FilterError(f"The conditions are {conditions!r}, expected a list.")
    parts = [_of(part) for part in conditions]
    if operator not in ("AND", "OR", "NOT"):
        raise FilterError(f"The operator is {operator!r}, expected one of AND, OR, NOT.")
    if not parts:  # all of no conditions hold, and none of them does
        return _NOTHING if operator in ("OR", "NOT") else {"$not": _NOTHING}
    return one_of(parts) if operator == "OR" else every(parts) if operator == "AND" else {"$not": every(parts)}


def _condition(condition: Mapping[str, Any]) -> Where:
    for name in ("operator", "value"):
        if name not in condition:
            raise FilterError(f"'{name}' is missing in the filter {dict(condition)}.")
    field, operator, value = _path(condition["field"]), condition["operator"], _value(condition["value"])
    if operator in ("in", "not in"):
        return _among(field, value, negated=operator == "not in")
    if operator not in COMPARISONS:
        raise FilterError(f"The operator is {operator!r}, expected one of {', '.join(COMPARISONS)}, in, not in.")
    if operator not in ("==", "!="):
        return _ordered(field, COMPARISONS[operator], value)
    if value is None:
        return absent(field) if operator == "==" else {"$not": absent(field)}
    return compared(field, COMPARISONS[operator], value)


def _among(field: str, value: Any, *, negated: bool) -> Where:
    if not isinstance(value, list):
        raise FilterError(f"The filter of {field!r} has a {type(value).__name__}, expected a list for in and not in.")
    inside = compared(field, "$in", [one for one in value if one is not None])
    inside = one_of([inside, absent(field)]) if None in value else inside
    return {"$not": inside} if negated else inside


def _ordered(field: str, operator: str, value: Any) -> Where:
    if value is None:
        return _NOTHING  # nothing is greater or less than null
    if isinstance(value, bool | list | dict) or (isinstance(value, str) and not _is_date(value)):
        raise FilterError(f"The filter of {field!r} compares with {value!r}, expected a number or an ISO date.")
    return compared(field, operator, value)


def _path(field: Any) -> str:
    """Where a collection has a field: Haystack's metadata are one object in ours."""
    if not isinstance(field, str) or field in _OTHER_FIELDS:
        raise FilterError(f"The field is {field!r}, expected id or a field of meta.")
    return field if field.startswith("meta.") or field in _FIELDS else f"meta.{field}"


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return [_value(one) for one in value] if isinstance(value, list) else value


def _is_date(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
