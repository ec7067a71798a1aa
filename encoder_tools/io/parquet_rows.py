"""Rows of Parquet files, as JSON can hold them.

Dates and times are ISO 8601 texts, durations seconds, decimals numbers where a double holds all of their digits and
else texts, NaN is absent. Bytes are no text: a column of them is refused by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.extras import require_extra
from encoder_tools.io.row_checks import check_column_names

_DIGITS = 15  # that a double always holds


def parquet_rows(path: Path, columns: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a file.

    :param columns: those that are wanted, of those that there are; None takes all.
    :raises FileCorruptError: if it is damaged.
    :raises InputError: if a column holds bytes.
    """
    require_extra("parquet", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        schema = table.schema_arrow
        check_column_names(path, schema.names)
        names = [name for name in schema.names if columns is None or name in columns]
        convert = {name: _converter(schema.field(name).type, path, name) for name in names}
        for batch in table.iter_batches(columns=names):
            for row in batch.to_pylist():
                yield {name: convert[name](value) for name, value in row.items()}
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise FileCorruptError(f"{path} is no whole Parquet file ({error}). Restore it.") from None


def _converter(kind: Any, path: Path, name: str) -> Callable[[Any], Any]:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        raise InputError(
            f"{path}: column {name!r} holds bytes, which are no text. Take only other columns (--keep), or leave it "
            "out."
        )
    if types.is_decimal(kind):
        return _number if kind.precision <= _DIGITS else _text
    return as_json


def as_json(value: Any) -> Any:
    """A value of any kind that Parquet has, as JSON has it."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return _number(value) if len(value.as_tuple().digits) <= _DIGITS else _text(value)
    return value


def _number(value: Decimal | None) -> float | int | None:
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)
