"""The fields that filters ask for, remembered beside a collection so that the next one to open it makes them ready.

A column of a million documents takes seconds to make. The file is derived: without it a column is made when a filter
first asks for its field.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from encoder_tools.errors import SaveError
from encoder_tools.io.files import write_bytes
from index.query.filters import Path as FieldPath

NAME = "filtered_fields.json"
MOST = 32
"""Fields that are remembered, the first ones."""
_VERSION = 1


class _Fields(msgspec.Struct, frozen=True):
    format_version: int
    fields: list[list[str]]


def read_fields(folder: Path) -> list[FieldPath]:
    """What is remembered; nothing if the file is missing, damaged or of another version."""
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        content = msgspec.json.decode((folder / NAME).read_bytes(), type=_Fields)
        if content.format_version == _VERSION:
            return [tuple(path) for path in content.fields[:MOST] if path]
    return []


def remember_fields(folder: Path, paths: Iterable[FieldPath]) -> None:
    """Add fields; a folder that cannot be written to remembers none."""
    known = read_fields(folder)
    new = [path for path in paths if path not in known]
    if not new or len(known) >= MOST:
        return
    fields = [list(path) for path in [*known, *new][:MOST]]
    with suppress(SaveError):
        write_bytes(folder / NAME, msgspec.json.encode(_Fields(_VERSION, fields)))
