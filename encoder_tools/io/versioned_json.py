"""JSON files that name their format and its version: read only if they are what is expected."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from encoder_tools.errors import FileCorruptError
from encoder_tools.io.files import read_json


def read_versioned(path: Path, format_name: str, versions: Collection[int], advice: str) -> dict[str, Any]:
    """Read a JSON object whose ``format`` and ``format_version`` are known here.

    :param versions: that can be read.
    :param advice: what to do with another file, one sentence.
    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is no JSON object, of another format, or of a version that is not known.
    """
    content = read_json(path)
    name, version = content.get("format"), content.get("format_version")
    if name != format_name or isinstance(version, bool) or version not in versions:
        known = " or ".join(map(str, sorted(versions)))
        raise FileCorruptError(
            f"{path} has format {name!r} version {version!r}, expected {format_name!r} version {known}. {advice}"
        )
    return content
