"""``index add`` as a function: tables of rows, folders of text files, single text files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from encoder_tools.aliases import Log
from encoder_tools.errors import FileMissingError, InputError
from encoder_tools.io.columns import DocumentColumns
from encoder_tools.io.rejected_rows import RejectedRows
from encoder_tools.io.rows import Reading, count_rows, is_dataset, numbered, read_rows
from index.collection.collection import Collection
from index.documents.chunking import Chunking
from index.documents.markup import TextKind
from index.ingest.document_process import MEMORY, SECONDS, DocumentProcess
from index.ingest.rows import Ingested, ingest
from index.ingest.text_files import TextFiles, file_rows, is_file_id, is_text_name, name_in, text_files
from index.results import DocumentId

_TEXT_TOKENS = 256  # of a piece of a text file
_NAMED = 5

Bar = Callable[[str, int | None, Iterable[Ingested]], Iterable[Ingested]]
"""Shows how far it is: takes a name, how many rows are expected, and what comes of each batch."""


def _without_bar(_name: str, _expected: int | None, parts: Iterable[Ingested]) -> Iterable[Ingested]:
    return parts


@dataclass(frozen=True)
class AddOptions:
    """How files are read and stored.

    :ivar columns: columns of tables.
    :ivar chunk_tokens: of a piece; 0 leaves texts whole, None cuts text files alone.
    :ivar main_text: leave out navigation, footers and cookie banners of HTML.
    :ivar code: read source code too, in folders and by name.
    :ivar sync: delete documents that are in none of the files; a file that was renamed is not encoded again.
    :ivar seconds: and ``memory``, in bytes: that reading one document (PDF, DOCX, ...) may take.
    """

    columns: DocumentColumns = field(default_factory=DocumentColumns)
    reading: Reading = field(default_factory=Reading)
    chunk_tokens: int | None = None
    overlap: int = 32
    main_text: bool = False
    code: bool = False
    sync: bool = False
    seconds: float = SECONDS
    memory: int = MEMORY

    def chunking(self, kind: TextKind | None) -> Chunking | None:
        """For text files of a kind, or None for tables."""
        tokens = (_TEXT_TOKENS if kind is not None else 0) if self.chunk_tokens is None else self.chunk_tokens
        if not tokens:
            return None
        return Chunking(tokens, min(self.overlap, tokens // 2), kind or "text", self.main_text and kind == "html")


def add_files(
    collection: Collection,
    out: Path,
    files: Sequence[Path],
    options: AddOptions,
    log: Log,
    bar: Bar = _without_bar,
) -> Ingested:
    """Store what is in files and folders.

    :param out: rows that cannot be stored go to ``<out>.rejected.jsonl``.
    :param log: called with a line of text for each file, and for what was not read.
    :return: how many rows there were, all files together.
    :raises InputError: if a file is of no known kind, or two text files would get one id.
    :raises FileMissingError: if there is no such file.
    """
    texts, tables = _sorted_out(files, code=options.code)
    with _Run(collection, out, options, log, bar) as run:
        for folder in texts:
            run.text_files(folder)
        for table in tables:
            run.table(table)
        run.finish(bool(texts))
        return run.total


def update_files(
    collection: Collection, out: Path, folder: Path, changed: Iterable[Path], options: AddOptions, log: Log
) -> Ingested:
    """Store again those files of a folder that have changed; with ``options.sync`` delete those that have gone.

    :param changed: files of the folder, or folders in it that are there no more.
    :param log: and the rest as in :func:`add_files`.
    """
    with _Run(collection, out, options, log) as run:
        run.changes(folder, sorted(set(changed)))
        return run.total


def _sorted_out(files: Sequence[Path], *, code: bool) -> tuple[list[TextFiles], list[Path]]:
    """Folders of text files, single text files as one more, and tables."""
    folders, singles, tables = [], [], []
    for file in files:
        if file.is_dir() and not is_dataset(file):
            folders.append(text_files(file, code=code))
        elif is_text_name(file.name, code=code):
            if not file.is_file():
                raise FileMissingError(f"{file} does not exist. Check the name.")
            singles.append(file)
        else:
            tables.append(file)
    twice = [name for name, count in Counter(file.name for file in singles).items() if count > 1]
    if twice:
        raise InputError(f"Several of the files are named {twice[0]!r}, which would be their id. Pass their folder.")
    return [*folders, *([TextFiles.of_single(singles)] if singles else [])], tables


def _ways_to(name: str) -> set[str]:
    """A path, and the folders that it is in."""
    parts = name.split("/")
    return {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}


class _Run:
    """One call of :func:`add_files`."""

    def __init__(
        self, collection: Collection, out: Path, options: AddOptions, log: Log, bar: Bar = _without_bar
    ) -> None:
        self._collection, self._out, self._options, self._log, self._bar = collection, out, options, log, bar
        self._seen: set[DocumentId] = set()
        self._moved: dict[str, Any] | None = None
        self._unread = 0  # rows whose ids nobody knows
        self._process = DocumentProcess(options.seconds, options.memory)
        self.total = Ingested()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def text_files(self, sources: TextFiles) -> None:
        """Store the text files of a folder."""
        self._seen |= set(sources.names)
        reject = RejectedRows(self._out, sources.root)
        for kind, files in sources.by_kind.items():
            rows = file_rows(sources.root, files, reject, self._process)
            chunking = self._options.chunking(kind)
            self._ingest(rows, reject, f"{sources.root} ({kind})", len(files), chunking, DocumentColumns(), ())
        if sources.others:
            counts = ", ".join(f"{count} {suffix}" for suffix, count in sources.others.most_common(_NAMED))
            tables = " Tables are read when they are named." if sources.tables else ""
            self._log(
                f"{sources.root}: {sum(sources.others.values())} files of other kinds are not read ({counts}).{tables}"
            )

    def changes(self, folder: Path, changed: Sequence[Path]) -> None:
        """Store the files of a folder that have changed, and delete those that have gone."""
        names = {name_in(folder, path) for path in changed if not path.exists()}
        gone = [one for one in self._collection.ids() if names & _ways_to(str(one))] if names else []
        if self._options.sync:
            self._moved = self._collection.vectors_by_text(gone)
        files = [path for path in changed if path.is_file()]
        self.text_files(text_files(folder, files, code=self._options.code))
        if self._options.sync and gone:
            self._collection.delete(gone)
            self._log(f"{len(gone)} documents deleted, such as {gone[0]!r}")

    def table(self, file: Path) -> None:
        """Store the rows of a file, or of a folder of datasets."""
        reject = RejectedRows(self._out, file)
        options = self._options
        needed = None
        if options.columns.metadata is not None:
            needed = {options.columns.text, options.columns.identifier, *options.columns.metadata}
        reading = replace(options.reading, columns=needed)
        rows = read_rows(file, reject=reject.from_reader, reading=reading)
        columns = replace(options.columns, name=file.name)
        self._ingest(rows, reject, str(file), count_rows(file), options.chunking(None), columns, reject.left_out)
        self._unread += len(reject.left_out)
        if file.is_dir():
            others = Counter(one.suffix or one.name for one in file.rglob("*") if is_text_name(one.name))
            if others:
                self._log(f"{file}: read as a dataset; {sum(others.values())} text files in it are not read.")

    def _ingest(
        self,
        rows: Iterable[Any],
        reject: RejectedRows,
        name: str,
        expected: int | None,
        chunking: Chunking | None,
        columns: DocumentColumns,
        left_out: Sequence[int],
    ) -> None:
        before, total = reject.count, Ingested()
        entries = numbered(rows, left_out)
        parts = ingest(
            self._collection, entries, columns, reject, chunking=chunking, seen=self._seen, known_vectors=self._known()
        )
        for part in self._bar(name, expected, parts):
            total = total.plus(part)
        total = total._replace(rejected=reject.count - before)
        said = f", {total.rejected} rejected, see {reject.path}" if total.rejected else ""
        self._log(f"{name}: {total.stored} stored, {total.unchanged} unchanged{said}")
        self.total = self.total.plus(total)

    def _known(self) -> dict[str, Any]:
        """Vectors of text files that have gone, by their text: under another name they are not encoded again."""
        if not self._options.sync:
            return {}
        if self._moved is None:
            self._moved = self._collection.vectors_by_text(self._gone_texts())
        return self._moved

    def _gone(self) -> list[DocumentId]:
        """Documents that are in none of the files so far."""
        return [name for name in self._collection.ids() if name not in self._seen]

    def _gone_texts(self) -> list[DocumentId]:
        """Those of them that are called as text files are."""
        return [name for name in self._gone() if is_file_id(str(name), code=self._options.code)]

    def finish(self, any_texts: bool) -> None:
        """Delete, or tell, what is stored and in none of the files."""
        if self._options.sync and self._unread:
            self._log(f"nothing is deleted: {self._unread} rows could not be read, and may be of stored documents")
        elif self._options.sync:
            gone = self._gone()
            self._collection.delete(gone)
            self._log(f"{len(gone)} documents deleted that are in none of the files")
        elif any_texts:
            gone = self._gone_texts()
            if gone:
                self._log(
                    f"{len(gone)} stored text files are in none of these, such as {gone[0]!r}; --sync deletes "
                    "documents that are in none of the files"
                )
