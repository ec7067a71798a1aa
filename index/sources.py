"""Folders of text files, as rows that can be stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from index.checks import TEXT_BYTES
from index.markup import TextKind

_SUFFIXES: dict[str, TextKind] = {
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}


def text_files(folder: Path) -> dict[TextKind, list[Path]]:
    """The text files in a folder and in those below it, by their kind; hidden ones and links are passed over."""
    found: dict[TextKind, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        kind = _SUFFIXES.get(file.suffix.lower())
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if kind is not None and not hidden and file.is_file() and not _is_linked(file, folder):
            found.setdefault(kind, []).append(file)
    return found


def file_rows(
    folder: Path, files: Sequence[Path], reject: Callable[[int, str, dict[str, Any]], None]
) -> Iterator[dict[str, Any]]:
    """Rows with the path in the folder as "id" and the file's "text"; a file that is no text is rejected."""
    for number, file in enumerate(files, start=1):
        name = file.relative_to(folder).as_posix()
        try:
            if file.stat().st_size > TEXT_BYTES:
                raise ValueError(f"it has {file.stat().st_size} bytes, expected {TEXT_BYTES} at most")
            text = file.read_bytes().decode("utf-8-sig")
        except (OSError, ValueError) as error:
            reject(number, f"{name} cannot be read as UTF-8 text ({error})", {"id": name})
            continue
        yield {"id": name, "text": text}


def _is_linked(file: Path, folder: Path) -> bool:
    """Whether a link is on the way: it may lead out of the folder."""
    return any(part.is_symlink() for part in (file, *file.parents) if folder in part.parents)
