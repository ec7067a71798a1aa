"""Results as JSON."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any


def described(value: Any) -> Any:
    """Dataclasses and named tuples as objects, other sequences as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: described(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: described(getattr(value, name)) for name in value._fields}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    return value
