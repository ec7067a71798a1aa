"""Rows as a Parquet file, whatever they hold: a column has one type there, a JSON object may have any."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from encoder_tools.errors import InputError
from encoder_tools.extras import require_extra
from encoder_tools.io.files import replacing

_AT_ONCE = 4096
_INT64 = 2**63


def write_parquet(path: Path, read: Callable[[], Iterable[Mapping[str, Any]]], as_text: Collection[str] = ()) -> int:
    """Write rows that can be read twice: once for the types of the columns, once to write them.

    A column of whole numbers, of numbers, of booleans or of texts is of that type, and so is one of lists of these;
    what is of several types, or an object, is written as JSON. A row without a column has null there.

    :param read: gives the rows.
    :param as_text: columns of which whole numbers beside texts are written as texts instead: 1 as "1".
    :return: how many there were.
    :raises InputError: if there are none.
    :raises SaveError: if writing fails; what stood there before is untouched.
    """
    require_extra("parquet", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    kinds: dict[str, str | None] = {}
    for row in read():
        for name, value in row.items():
            if value is not None:
                kind_ = _kind(value)
                kinds[name] = _both(kinds.get(name), kind_, name in as_text)
            else:
                kinds.setdefault(name, None)
    if not kinds:
        raise InputError(f"There is nothing to write to {path}: no row has a column.")
    types = {
        "int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_(),
        "str": pyarrow.string(), "json": pyarrow.string(), "text": pyarrow.string(),
    }  # fmt: skip
    types |= {f"list {kind}": pyarrow.list_(kind_) for kind, kind_ in types.items() if kind not in ("json", "text")}
    schema = pyarrow.schema([(name, types[kind or "str"]) for name, kind in kinds.items()])
    count = 0
    with replacing(path) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for batch in _batches(iter(read())):
            lines = [{name: _as(row.get(name), kind) for name, kind in kinds.items()} for row in batch]
            writer.write_table(pyarrow.Table.from_pylist(lines, schema=schema))
            count += len(batch)
    return count


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "str"
    if isinstance(value, list) and value:
        kinds = {_kind(item) for item in value}
        (kind, *others) = kinds
        if not others and kind in ("bool", "int", "float", "str"):
            return f"list {kind}"
    return "json"


def _both(one: str | None, other: str, as_text: bool) -> str:
    """The kind of a column that has values of both."""
    if one == other or one is None:
        return other
    if as_text and {one, other} <= {"int", "str", "text"}:
        return "text"
    return "float" if {one, other} == {"int", "float"} else "json"


def _as(value: Any, kind: str | None) -> Any:
    if value is None:
        return None
    if kind == "text":
        return str(value)
    return json.dumps(value, ensure_ascii=False) if kind == "json" else value


def _batches(rows: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    while batch := list(islice(rows, _AT_ONCE)):
        yield batch
