"""Text files of folders as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoder_tools.io.rows import kind_of
from index.documents.markup import TextKind
from index.validation import TEXT_BYTES

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


@dataclass(frozen=True)
class TextFiles:
    """The text files below a folder.

    :ivar root: which their names are relative to.
    :ivar others: how many files of other kinds there are, by suffix; ``tables`` of them are of rows.
    """

    root: Path
    by_kind: dict[TextKind, list[Path]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    tables: int = 0

    @classmethod
    def of_single(cls, files: Sequence[Path]) -> TextFiles:
        """Files that were named one by one; each is called as in its folder."""
        by_kind: dict[TextKind, list[Path]] = {}
        for file in files:
            by_kind.setdefault(_SUFFIXES[file.suffix.lower()], []).append(file)
        return cls(files[0].parent, by_kind)

    @property
    def names(self) -> list[str]:
        """Their ids."""
        return [name_in(self.root, file) for files in self.by_kind.values() for file in files]


def is_text_name(name: str) -> bool:
    """Whether a file of this name is one of text."""
    return Path(name).suffix.lower() in _SUFFIXES


def name_in(root: Path, file: Path) -> str:
    """The path of a file in a folder; of one that is elsewhere, its name."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def text_files(folder: Path) -> TextFiles:
    """The text files in a folder and in those below it, by their kind; hidden ones and links are passed over."""
    by_kind: dict[TextKind, list[Path]] = {}
    others: Counter[str] = Counter()
    tables = 0
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or not file.is_file() or _is_linked(file, folder):
            continue
        kind = _SUFFIXES.get(file.suffix.lower())
        if kind is not None:
            by_kind.setdefault(kind, []).append(file)
        else:
            others[file.suffix or file.name] += 1
            tables += kind_of(file) is not None
    return TextFiles(folder, by_kind, others, tables)


def file_rows(
    root: Path, files: Sequence[Path], reject: Callable[[int, str, dict[str, Any]], None]
) -> Iterator[dict[str, Any]]:
    """Rows with the path in the folder as "id" and the file's "text"; a file that is no text is rejected."""
    for number, file in enumerate(files, start=1):
        name = name_in(root, file)
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
