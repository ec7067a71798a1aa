"""Text files and documents of folders as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoder_tools.io.rows import kind_of, read_rows
from index.documents.formats.extracted import Extracted, table_line
from index.documents.formats.reading import FORMATS
from index.documents.markup import TextKind
from index.documents.source_code import KIND_OF
from index.ingest.document_process import DocumentProcess
from index.validation import TEXT_BYTES

_TEXTS: dict[str, TextKind] = {
    ".txt": "text",
    ".text": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
_TABLES: dict[str, TextKind] = {".csv": "markdown", ".tsv": "markdown"}
"""Of a folder; a table that is named itself is read row by row."""
_SUFFIXES = {**_TEXTS, **{suffix: one.kind for suffix, one in FORMATS.items()}}


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
            kind = _kind(file, code=True)
            if kind is not None:
                by_kind.setdefault(kind, []).append(file)
        return cls(files[0].parent, by_kind)

    @property
    def names(self) -> list[str]:
        """Their ids."""
        return [name_in(self.root, file) for files in self.by_kind.values() for file in files]


def is_text_name(name: str, *, code: bool = False) -> bool:
    """Whether a file of this name is one of text, or of source code if that is read."""
    return _kind(Path(name), code=code) is not None


def is_file_id(name: str, *, code: bool = False) -> bool:
    """Whether a document may be called so because it is a file of a folder."""
    return _kind_in_folder(Path(name), code=code) is not None


def _kind(file: Path, *, code: bool) -> TextKind | None:
    suffix = file.suffix.lower()
    return _SUFFIXES.get(suffix) or (KIND_OF.get(suffix) if code else None)


def _kind_in_folder(file: Path, *, code: bool) -> TextKind | None:
    return _kind(file, code=code) or _TABLES.get(file.suffix.lower())


def name_in(root: Path, file: Path) -> str:
    """The path of a file in a folder; of one that is elsewhere, its name."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def text_files(folder: Path, files: Iterable[Path] | None = None, *, code: bool = False) -> TextFiles:
    """The text files in a folder and in those below it, by their kind; hidden ones and links are passed over.

    :param files: those of them that are looked at; all for None.
    :param code: whether source code is read.
    """
    by_kind: dict[TextKind, list[Path]] = {}
    others: Counter[str] = Counter()
    tables = 0
    for file in sorted(folder.rglob("*") if files is None else files):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or not file.is_file() or _is_linked(file, folder):
            continue
        kind = _kind_in_folder(file, code=code)
        if kind is not None:
            by_kind.setdefault(kind, []).append(file)
        else:
            others[file.suffix or file.name] += 1
            tables += kind_of(file) is not None
    return TextFiles(folder, by_kind, others, tables)


def file_rows(
    root: Path, files: Sequence[Path], reject: Callable[[int, str, dict[str, Any]], None], process: DocumentProcess
) -> Iterator[dict[str, Any]]:
    """Rows with the path in the folder as "id", the file's "text", and what a document says of itself.

    A file that cannot be read is rejected, and so is each part of a document that cannot; the rest of it is stored.
    """
    for number, file in enumerate(files, start=1):
        name = name_in(root, file)
        try:
            extracted = _extracted(file, process)
        except UnicodeDecodeError as error:
            reject(number, f"{name} cannot be read as UTF-8 text ({error})", {"id": name})
            continue
        except (OSError, ValueError, ImportError) as error:
            reject(number, f"{name} cannot be read: {error}", {"id": name})
            continue
        for problem in extracted.problems:
            reject(number, f"{name}: {problem}", {"id": name})
        yield {**extracted.metadata, "id": name, "text": extracted.text}


def _extracted(file: Path, process: DocumentProcess) -> Extracted:
    suffix = file.suffix.lower()
    if suffix in FORMATS:
        return process.read(file)
    size = file.stat().st_size
    if size > TEXT_BYTES:
        raise ValueError(f"it has {size} bytes, expected {TEXT_BYTES} at most")
    if suffix in _TABLES:
        return Extracted("\n\n".join(filter(None, (table_line(row.items()) for row in read_rows(file)))))
    return Extracted(file.read_bytes().decode("utf-8-sig"))


def _is_linked(file: Path, folder: Path) -> bool:
    """Whether a link is on the way: it may lead out of the folder."""
    return any(part.is_symlink() for part in (file, *file.parents) if folder in part.parents)
