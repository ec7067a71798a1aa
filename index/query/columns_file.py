"""Columns of metadata kept beside a collection, so that a filter of the next process to open it has nothing to read.

The column of a million documents takes seconds to make and milliseconds to load. The files are derived, and of the rows
that the graph on disk has: rows of later writes are read as ever. What is damaged, of another version or of another
state counts as none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from encoder_tools.errors import SaveError
from encoder_tools.io.files import write_bytes
from index.memory.derived_files import File, read_into, sweep, write_file
from index.query.filters import Path as FieldPath
from index.storage.vector_block import WriteToken

NAME, _KIND, _VERSION = "columns.json", "columns", 1


class Kept(NamedTuple):
    """A column: which value each row has.

    :ivar codes: int32 (n,), of values; -1 where a row has none.
    """

    codes: NDArray[np.int32]
    values: list[Any]


class _Field(msgspec.Struct, frozen=True):
    path: list[str]
    codes: File
    values: File


class _Manifest(msgspec.Struct, frozen=True):
    """What there is.

    :ivar sequence: of the write after which it was kept, ``token`` that write's.
    :ivar rows: checksum of the row numbers, of which there are ``count``.
    """

    format_version: int
    sequence: int
    token: str
    count: int
    rows: str
    fields: list[_Field]


def checksum_of(rows: NDArray[np.int64]) -> str:
    """Of row numbers."""
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(rows, dtype="<i8").data)


def save_columns(
    folder: Path, columns: Mapping[FieldPath, Kept], rows: NDArray[np.int64], write_token: WriteToken
) -> None:
    """Write the columns of some rows, in place of what was there; a folder that cannot be written to keeps none."""
    with suppress(SaveError):
        fields = [
            _Field(
                list(path),
                write_file(folder, _KIND, lambda write, kept=kept: write(kept.codes.astype("<i4").tobytes())),  # type: ignore[misc]
                write_file(folder, _KIND, lambda write, kept=kept: write(_encoded(kept.values))),  # type: ignore[misc]
            )
            for path, kept in columns.items()
        ]
        manifest = _Manifest(_VERSION, *write_token, len(rows), checksum_of(rows), fields)
        write_bytes(folder / NAME, msgspec.json.encode(manifest))
        sweep(folder, (_KIND,), {file.name for field in fields for file in (field.codes, field.values)})


class KeptColumns:
    """What a folder has, found out once.

    :ivar write_token: of the state that it was kept of; None if there is nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest: _Manifest | None = None
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            manifest = msgspec.json.decode((folder / NAME).read_bytes(), type=_Manifest)
            self._manifest = manifest if manifest.format_version == _VERSION else None

    @property
    def write_token(self) -> WriteToken | None:
        """As said above."""
        return None if self._manifest is None else WriteToken(self._manifest.sequence, self._manifest.token)

    def of(self, rows: NDArray[np.int64]) -> dict[FieldPath, Kept]:
        """The columns of the first of some rows, if they are of those."""
        manifest = self._manifest
        if manifest is None or not 0 < manifest.count <= len(rows):
            return {}
        if checksum_of(rows[: manifest.count]) != manifest.rows:
            return {}
        read = {tuple(field.path): self._read(field, manifest.count) for field in manifest.fields}
        return {path: kept for path, kept in read.items() if path and kept is not None}

    def _read(self, field: _Field, count: int) -> Kept | None:
        codes = np.empty(count, dtype="<i4")
        data = np.empty(max(0, field.values.size), dtype=np.uint8)
        if read_into(self._folder, field.codes, codes) or read_into(self._folder, field.values, data):
            return None
        values = _decoded(data.tobytes())
        if values is None or codes.min(initial=0) < -1 or codes.max(initial=-1) >= len(values):
            return None
        return Kept(codes.astype(np.int32, copy=False), values)


def _encoded(values: Sequence[Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode()


def _decoded(data: bytes) -> list[Any] | None:
    with suppress(ValueError, RecursionError):
        values = json.loads(data)
        return values if isinstance(values, list) else None
    return None
