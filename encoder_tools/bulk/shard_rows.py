"""Rows of the inputs, cut into shards by their order: the same inputs give the same shards on every run and machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from encoder_tools.aliases import Row
from encoder_tools.bulk.embed_job import EmbedJob
from encoder_tools.bulk.stores import local_copy, named_inputs
from encoder_tools.errors import InputError
from encoder_tools.io.columns import DocumentColumns
from encoder_tools.io.rejected_rows import rejected_line
from encoder_tools.io.rows import numbered, read_rows

_INT64 = 2**63


class RowsOfShard(msgspec.Struct, array_like=True):
    """What is in a shard.

    :ivar ids: all integers, or all texts.
    :ivar texts: and ``metadata``, JSON objects, one per id.
    :ivar rejected: lines about rows that cannot be used.
    """

    ids: list[int | str] = msgspec.field(default_factory=list)
    texts: list[str] = msgspec.field(default_factory=list)
    metadata: list[str] = msgspec.field(default_factory=list)
    rejected: list[str] = msgspec.field(default_factory=list)


class Shard(NamedTuple):
    """A shard before it is embedded, as it is sent to another process.

    :ivar number: from 0 on.
    :ivar payload: :class:`RowsOfShard` in MessagePack.
    """

    number: int
    payload: bytes

    @property
    def rows(self) -> RowsOfShard:
        """What is in it."""
        return msgspec.msgpack.decode(self.payload, type=RowsOfShard)


def shards_of(job: EmbedJob) -> Iterator[Shard]:
    """The shards of a job, in their order; the last one may be smaller.

    :raises FileCorruptError: if an input is damaged, when it is reached.
    :raises InputError: and other errors as :func:`encoder_tools.io.rows.read_rows`.
    """
    number, rows = 0, RowsOfShard()
    for position, entry in _entries(job):
        while position // job.shard_rows > number:
            yield Shard(number, msgspec.msgpack.encode(rows))
            number, rows = number + 1, RowsOfShard()
        if isinstance(entry, str):
            rows.rejected.append(entry)
        else:
            rows.ids.append(entry.id)
            rows.texts.append(entry.text)
            rows.metadata.append(entry.metadata)
    if rows.ids or rows.rejected:
        yield Shard(number, msgspec.msgpack.encode(rows))


class _Document(NamedTuple):
    id: int | str
    text: str
    metadata: str


def _entries(job: EmbedJob) -> Iterator[tuple[int, _Document | str]]:
    """Each row with its number over all inputs: a document, or the line about a rejected row."""
    before, ids = 0, _IdKind()
    for name, called in named_inputs(job.inputs):
        file = _File(called, before)
        columns = replace(job.columns, name=called)
        with local_copy(name) as path:
            reading = replace(job.reading, columns=_needed(columns))
            for number, row in numbered(read_rows(path, reject=file.reject, reading=reading), file.left_out):
                yield from file.told()
                try:
                    entry: _Document | str = _document(number, row, columns, ids)
                except InputError as error:
                    entry = rejected_line(called, number, str(error), row)
                yield before + number - 1, entry
                file.rows = number
            yield from file.told()
        before += max([file.rows, *file.left_out[-1:]])


def _needed(columns: DocumentColumns) -> set[str] | None:
    return None if columns.metadata is None else {columns.text, columns.identifier, *columns.metadata}


@dataclass
class _File:
    """An input while it is read: ``left_out`` are rows of it that cannot be read."""

    name: str
    before: int
    rows: int = 0
    left_out: list[int] = field(default_factory=list)
    _lines: list[tuple[int, str]] = field(default_factory=list)

    def reject(self, number: int, reason: str, row: Any) -> None:
        self.left_out.append(number)
        self._lines.append((self.before + number - 1, rejected_line(self.name, number, reason, row)))

    def told(self) -> list[tuple[int, str]]:
        """What was rejected since the last call."""
        lines, self._lines = self._lines, []
        return lines


class _IdKind:
    """A column of Parquet has one type, so the first id decides what ids of all inputs are."""

    def __init__(self) -> None:
        self._kind: type | None = None

    def checked(self, value: Any, *, missing: bool) -> int | str:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InputError(f"The id is a {type(value).__name__}, expected a text or an integer.")
        self._kind = self._kind or type(value)
        if not isinstance(value, self._kind):
            what = "missing" if missing else f"{value!r}, a {_named(type(value))}"
            raise InputError(f"The id is {what}; those before are {_named(self._kind)}s, and a column has one type.")
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            raise InputError(f"The id is {value}, expected an integer of 64 bits. Use a text.")
        return value


def _named(kind: type) -> str:
    return "text" if kind is str else "integer"


def _document(number: int, row: Row, columns: DocumentColumns, ids: _IdKind) -> _Document:
    identifier, text, fields = columns.parts(number, row)
    metadata = _as_json(fields)
    for what, value in {"text": text, "id": identifier, "metadata": metadata}.items():
        if isinstance(value, str) and not _is_unicode(value):
            raise InputError(f"The {what} holds half of a surrogate pair, expected valid Unicode.")
    return _Document(ids.checked(identifier, missing=row.get(columns.identifier) in (None, "")), text, metadata)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_json(metadata: Row) -> str:
    try:
        return json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"The metadata cannot be written as JSON ({error}).") from None
