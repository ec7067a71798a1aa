"""Recipes as TOML files, read as typed structs; unknown names are rejected with the nearest known one."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from encoder_tools.errors import FileCorruptError
from encoder_tools.io.files import checked_as, open_regular

T = TypeVar("T", bound=msgspec.Struct)


def read_settings(path: Path, kind: type[T]) -> T:
    """Read a TOML file as a struct, whose fields may be structs and tuples of structs.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is not TOML, or a setting is unknown, missing or of another type.
    """
    with open_regular(path) as file:
        try:
            value = tomllib.loads(file.read().decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise FileCorruptError(f"{path} is not valid TOML ({error}). Repair the file.") from None
    _check_names(path, value, kind, "")
    return checked_as(value, kind, str(path))


def settings_digest(settings: msgspec.Struct) -> str:
    """Hash of all settings: a state that was saved under others is refused."""
    return hashlib.sha256(json.dumps(msgspec.to_builtins(settings), sort_keys=True).encode()).hexdigest()[:32]


def _check_names(path: Path, value: Any, kind: type[msgspec.Struct], path_in_file: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for name, content in value.items() if isinstance(value, dict) else ():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.3)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            where = f"[{path_in_file}]" if path_in_file else "The recipe"
            raise FileCorruptError(f"{path}: {where} has no setting {name!r}, it has {', '.join(fields)}.{meant}")
        inner = fields[name]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            _check_names(path, content, inner, name)
        elif get_origin(inner) is tuple and isinstance(content, list):
            item = get_args(inner)[0]
            for row in content if isinstance(item, type) and issubclass(item, msgspec.Struct) else ():
                _check_names(path, row, item, name)
