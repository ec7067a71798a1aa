"""Types with names: rows of tables, and the callbacks that readers and long runs take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
"""One row of a table: column to value."""

Reject: TypeAlias = Callable[[int, str, Any], None]
"""Takes the number of a row that cannot be used, from 1, the reason, and the row as far as it could be read."""

Log: TypeAlias = Callable[[str], None]
"""Takes a line for people: what a long run does, or a warning."""
