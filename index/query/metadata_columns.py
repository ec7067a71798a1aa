"""Metadata fields as columns in memory, and filters over them.

A column is made when a filter first asks for its field, or when a collection is opened whose filters asked for it
before; from then on it grows with the writes. It holds each distinct value once, and for each row which one it has: a
condition is decided once a value, not once a row. Numbers are also kept as numbers, so that a range over as many values
as there are rows is one comparison of arrays.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from index.memory.growing import grown
from index.memory.snapshot import Snapshot
from index.query.columns_file import Kept, KeptColumns, checksum_of, save_columns
from index.query.filtered_fields import remember_fields
from index.query.filters import All, Condition, Filter, Not, Path, Words, fields_of
from index.storage.reader import Reader

Mask = NDArray[np.bool_]
_ABSENT = -1
_AT_ONCE = 2000  # rows that are read together when columns are made ready: a search waits for no more
_EXACT = 2**53  # integers up to here are exact as float64
MISSING = object()
"""What :func:`value_at` gives for a field that is not there."""
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


class Column:
    """One field of the rows of a snapshot, in their order."""

    def __init__(self) -> None:
        self._count = 0
        self._codes: NDArray[np.int32] = np.empty(0, dtype=np.int32)  # with room behind the rows
        self._numbers: NDArray[np.float64] = np.empty(0)
        self._values: list[Any] = []
        self._code_of: dict[Hashable, int] = {}
        self._inexact = False

    def __len__(self) -> int:
        return self._count

    @classmethod
    def of(cls, kept: Kept) -> Self:
        """As it was kept."""
        column = cls()
        column._count, column._codes, column._values = len(kept.codes), kept.codes, kept.values
        column._code_of = {key_of(value): code for code, value in enumerate(kept.values)}
        column._inexact = any(_is_number(value) and abs(value) > _EXACT for value in kept.values)
        numbers = np.array([*map(_number, kept.values), np.nan])  # the last is of _ABSENT, -1
        column._numbers = numbers[kept.codes]
        return column

    def kept(self, positions: NDArray[np.int64]) -> Kept:
        """What is to be kept of the rows at some positions."""
        return Kept(self._codes[positions], list(self._values))

    def extend(self, values: Iterable[Any]) -> None:
        """Add the values of more rows; ``MISSING`` where a row has none."""
        codes, numbers = [], []
        for value in values:
            codes.append(_ABSENT if value is MISSING else self._code(value))
            numbers.append(_number(value))
            self._inexact |= _is_number(value) and abs(value) > _EXACT
        end = self._count + len(codes)
        self._codes, self._numbers = grown(self._codes, self._count, end), grown(self._numbers, self._count, end)
        self._codes[self._count : end], self._numbers[self._count : end] = codes, numbers
        self._count = end

    def mask(self, condition: Condition, rows: int) -> Mask:
        """Which of the first ``rows`` match."""
        codes, value = self._codes[:rows], condition.value
        if condition.operator == "exists":
            return np.asarray((codes != _ABSENT) == value)
        if condition.operator == "eq":
            return np.asarray(codes == self._code_of.get(key_of(value), _ABSENT - 1))
        if condition.operator == "in":
            expected = [self._code_of.get(key_of(item), _ABSENT - 1) for item in value]
            return np.isin(codes, expected)
        if condition.operator == "contains":
            wanted_key = key_of(value)
            return self._where(codes, lambda value_: isinstance(value_, list) and wanted_key in map(key_of, value_))
        compare = _COMPARE[condition.operator]
        if _is_number(value) and not self._inexact and abs(value) <= _EXACT:
            with np.errstate(invalid="ignore"):
                return np.asarray(compare(self._numbers[:rows], float(value)))  # NaN compares false
        same = _is_number if _is_number(value) else lambda value_: isinstance(value_, str)
        return self._where(codes, lambda value_: same(value_) and compare(value_, value))

    def _where(self, codes: NDArray[np.int32], matches: Callable[[Any], bool]) -> Mask:
        by_code = np.array([*map(matches, self._values), False], dtype=bool)  # the last is of _ABSENT, -1
        return by_code[codes]

    def _code(self, value: Any) -> int:
        key = key_of(value)
        code = self._code_of.setdefault(key, len(self._values))
        if code == len(self._values):
            self._values.append(value)
        return code


class Columns:
    """The columns that filters asked for so far. Safe for threads.

    :param folder: of the collection, beside which columns are kept.
    """

    def __init__(self, folder: FilePath) -> None:
        self._lock, self._folder = threading.Lock(), folder
        self._on_disk: KeptColumns | None = None
        self._saved: tuple[frozenset[Path], str] = frozenset(), ""
        self._generation = -1
        self._columns: dict[Path, Column] = {}

    def mask(self, condition: Filter, snapshot: Snapshot, reader: Reader) -> Mask:
        """Which rows of a snapshot match and are alive, bool (n,).

        :param reader: of the snapshot's own state.
        """
        fields = fields_of(condition)
        with self._lock:
            mine = self._of(snapshot, reader)
            new = [path for path in fields if path not in mine]
            columns = self._filled(mine, fields, snapshot, reader)
        if new:
            remember_fields(self._folder, new)
        leaves = _Leaves(columns, snapshot, reader)
        return leaves.mask(condition) & snapshot.alive

    @property
    def kept(self) -> bool:
        """Whether there are any."""
        return bool(self._columns)

    def follow(self, snapshot: Snapshot, reader: Reader) -> None:
        """Take in what was written after the last search, so that the next one has nothing to read."""
        with self._lock:
            columns = self._of(snapshot, reader)
            if columns:
                self._filled(columns, set(columns), snapshot, reader)

    def prepare(self, fields: Iterable[Path], snapshot: Snapshot, reader: Reader) -> None:
        """Make columns, a few rows at a time: searches that need none of them do not wait."""
        paths = set(fields)
        for end in range(_AT_ONCE, len(snapshot.rows) + _AT_ONCE, _AT_ONCE):
            with self._lock:
                columns = self._of(snapshot, reader)
                if snapshot.generation != self._generation:
                    return
                self._filled(columns, paths, snapshot, reader, end)

    def save(self, rows: NDArray[np.int64], snapshot: Snapshot) -> None:
        """Keep the columns of some rows, those that the graph on disk has, beside the collection."""
        with self._lock:
            columns = dict(self._of(snapshot))
            positions = np.searchsorted(snapshot.rows, rows)
            if not columns or not np.array_equal(snapshot.rows[positions[positions < len(snapshot.rows)]], rows):
                return
            end = int(positions[-1]) + 1
            kept = {path: column.kept(positions) for path, column in columns.items() if len(column) >= end}
            state = frozenset(kept), checksum_of(rows)
            if not kept or state == self._saved:
                return
            self._saved = state
        save_columns(self._folder, kept, rows, snapshot.write_token)

    def _loaded(self, snapshot: Snapshot, reader: Reader) -> dict[Path, Column]:
        """Those that are kept beside the collection, if they are of rows of this state."""
        self._on_disk = self._on_disk or KeptColumns(self._folder)
        token = self._on_disk.write_token
        if token is None or reader.token_of(token.sequence) != token.token:
            return {}
        columns = {path: Column.of(kept) for path, kept in self._on_disk.of(snapshot.rows).items()}
        if columns:
            count = len(next(iter(columns.values())))
            self._saved = frozenset(columns), checksum_of(snapshot.rows[:count])
        return columns

    def _of(self, snapshot: Snapshot, reader: Reader | None = None) -> dict[Path, Column]:
        """The columns of a snapshot's generation; of one that has passed, none that are kept."""
        if snapshot.generation > self._generation:
            # Rows have other places now, so that all is made again; the fields are those of before.
            self._generation, self._columns = snapshot.generation, {path: Column() for path in self._columns}
            if reader is not None:
                self._columns |= self._loaded(snapshot, reader)
        return self._columns if snapshot.generation == self._generation else {}

    def _filled(
        self, columns: dict[Path, Column], fields: set[Path], snapshot: Snapshot, reader: Reader, end: int | None = None
    ) -> dict[Path, Column]:
        """The columns of some fields, up to the row at a place."""
        rows = snapshot.rows[:end]
        groups: dict[int, list[Path]] = {}
        for path in fields:
            groups.setdefault(len(columns.setdefault(path, Column())), []).append(path)
        for start, paths in groups.items():
            if start < len(rows):
                new = reader.metadata(rows[start:])
                for path in paths:
                    columns[path].extend(value_at(metadata, path) for metadata in new)
        return columns


def value_at(metadata: Mapping[str, Any] | None, path: Sequence[str]) -> Any:
    """What is at a path of an object, or ``MISSING``."""
    value: Any = metadata
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return value


def key_of(value: Any) -> Hashable:
    """Equal for values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool) or value is None:
        return ("const", value)
    if isinstance(value, int | float):
        return ("number", value)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ("object", frozenset((name, key_of(item)) for name, item in value.items()))
    return ("array", tuple(key_of(item) for item in value))


@dataclass(frozen=True)
class _Leaves:
    """What a filter's conditions are decided by."""

    columns: Mapping[Path, Column]
    snapshot: Snapshot
    reader: Reader

    def mask(self, condition: Filter) -> Mask:
        """Which rows match, alive or not."""
        rows = len(self.snapshot.rows)
        if isinstance(condition, Condition):
            return self.columns[condition.path].mask(condition, rows)
        if isinstance(condition, Words):
            return np.isin(self.snapshot.rows, self.reader.rows_with(condition.text))
        if isinstance(condition, Not):
            return ~self.mask(condition.part)
        masks = [self.mask(part) for part in condition.parts]
        if isinstance(condition, All):
            return np.logical_and.reduce(masks) if masks else np.ones(rows, dtype=bool)
        return np.logical_or.reduce(masks) if masks else np.zeros(rows, dtype=bool)


def _number(value: Any) -> float:
    """NaN for what is none, or no float can hold."""
    return float(value) if _is_number(value) and abs(value) <= _EXACT else np.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
