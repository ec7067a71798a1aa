"""Reads other than searches: documents by id, scans, counts, statistics, verification."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from encoder_tools.errors import FileCorruptError, InputError, SaveError
from encoder_tools.protocols import FloatMatrix
from index.ann.cache import read_manifest
from index.collection.opened import OpenState
from index.query.filters import Filter
from index.results import Document, DocumentId, Stats
from index.storage import fts
from index.storage.integrity import verify
from index.storage.reader import Reader
from index.validation import check_ids

_SCAN_AT_ONCE = 1000


class Reads:
    """Runs reads, each of one committed state.

    :param opened: the collection that is read.
    """

    def __init__(self, opened: OpenState) -> None:
        self._opened = opened

    def get(self, ids: Sequence[DocumentId]) -> list[Document | None]:
        """Documents by id; None where there is none."""
        checked = check_ids(ids)
        with self._opened.reading() as reader:
            return [reader.by_id(identifier) for identifier in checked]

    def ids(self) -> list[DocumentId]:
        """All ids, in the order in which they were first written."""
        with self._opened.reading() as reader:
            return list(reader.ids())

    def count(self, condition: Filter | None) -> int:
        """How many documents there are, or match a filter."""
        if condition is None:
            with self._opened.reading() as reader:
                return reader.count()
        with self._opened.read_view() as view:
            return len(view.matching(condition))

    def scan(self, condition: Filter | None, after: DocumentId | None = None) -> Iterator[Document]:
        """All documents, or those that match a filter, a thousand per transaction.

        :param after: a document, behind which it begins.
        """
        last = -1
        if after is not None:
            with self._opened.reading() as reader:
                row = reader.row_of(*check_ids([after]))
            if row is None:
                raise InputError(f"There is no document {after!r} to go on behind.")
            last = row
        return self._all(last) if condition is None else self._matching(condition, last)

    def vectors_by_text(self, ids: Sequence[DocumentId]) -> dict[str, Any]:
        """Stored vectors (dim,) of documents and of their chunks, by text."""
        vectors: dict[str, Any] = {}
        with self._opened.reading() as reader:
            for identifier in check_ids(ids):
                row = reader.row_of(identifier)
                documents = reader.pieces_of(identifier) or ({} if row is None else reader.by_rows([row]))
                by_row = reader.vectors_by_row(documents)
                vectors |= {documents[row].text: vector for row, vector in by_row.items()}
        return vectors

    def vectors(self, ids: Sequence[DocumentId]) -> list[FloatMatrix | None]:
        """Stored vectors (dim,) of documents by id; None where there is none."""
        with self._opened.reading() as reader:
            rows = [reader.row_of(identifier) for identifier in check_ids(ids)]
            stored = reader.vectors_by_row(row for row in rows if row is not None)
        return [None if row is None else stored[row] for row in rows]

    def stats(self) -> Stats:
        """What there is, and how it is searched."""
        with self._opened.read_view() as view:
            view.builder.wait_until_loaded(view.snapshot)
            graph = view.builder.graph
            return Stats(
                len(view.snapshot),
                view.about.dim,
                "flat" if graph is None else graph.kind.name,
                view.builder.why,
                None if graph is None else graph.tuning.worst,
                None if graph is None else graph.tuning.effort(10),
                sum(file.stat().st_size for file in self._opened.folder.iterdir() if file.is_file()),
                view.reader.reembedded(),
                None if graph is None else graph.tuning.recall,
                view.about.storage,
            )

    def verify(self) -> int:
        """Read everything and check it; return how many documents there are."""
        database = self._opened.database
        lost = database.lost_writes()
        if lost is not None:
            raise FileCorruptError(lost)
        with self._opened.reading() as reader:
            self._check_manifest(reader)
            count = verify(reader, database.path)
        with suppress(SaveError), database.writing() as connection:  # a folder that is read-only cannot be checked so
            fts.check(connection)
        return count

    def check_manifest(self) -> None:
        """Check that no file beside the database is of a later write than the database's last one.

        :raises FileCorruptError: if one is: the database lost writes.
        """
        with self._opened.reading() as reader:
            self._check_manifest(reader)

    def _check_manifest(self, reader: Reader) -> None:
        about = reader.about
        manifest, _ = read_manifest(self._opened.folder, about)
        if manifest is not None and manifest.sequence > reader.sequence():
            raise FileCorruptError(_behind(self._opened.database.path, manifest.sequence, reader.sequence()))

    def _all(self, last: int) -> Iterator[Document]:
        while True:
            with self._opened.reading() as reader:
                part = reader.after(last, _SCAN_AT_ONCE)
            if not part:
                return
            last = part[-1][0]
            yield from (document for _, document in part)

    def _matching(self, condition: Filter, last: int) -> Iterator[Document]:
        with self._opened.read_view() as view:
            rows = view.matching(condition)
        rows = rows[bisect_right(rows, last) :]
        for start in range(0, len(rows), _SCAN_AT_ONCE):
            with self._opened.reading() as reader:
                part = reader.by_rows(rows[start : start + _SCAN_AT_ONCE], some=True)
            yield from (part[row] for row in sorted(part))


def _behind(path: Path, sequence: int, own: int) -> str:
    return (
        f"{path} ends with write {own}, but the index beside it was made after write {sequence}: the database lost "
        "writes, or was restored to an earlier state. Restore a backup; if this state is intended, run `compact`."
    )
