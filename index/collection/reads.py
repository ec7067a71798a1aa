"""Reads other than searches: documents by id, scans, counts, vectors."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from index.collection.engine import Engine
from index.query.filters import Filter
from index.results import Document, DocumentId
from index.validation import check_ids

_SCAN_AT_ONCE = 1000


class Reads:
    """Runs reads, each of one committed state.

    :param opened: the collection that is read.
    """

    def __init__(self, opened: Engine) -> None:
        self._opened = opened

    def get(self, ids: Sequence[DocumentId]) -> list[Document | None]:
        """Documents by id; None where there is none."""
        checked = check_ids(ids)

        def read() -> list[Document | None]:
            with self._opened.reading() as reader:
                rows = reader.rows_of_ids(checked)
                documents = reader.by_rows(sorted(rows.values()))
            return [documents[rows[identifier]] if identifier in rows else None for identifier in checked]

        return self._opened.run(read)

    def ids(self) -> list[DocumentId]:
        """All ids, in the order in which they were first written."""

        def read() -> list[DocumentId]:
            with self._opened.reading() as reader:
                return list(reader.ids())

        return self._opened.run(read)

    def count(self, condition: Filter | None) -> int:
        """How many documents there are, or match a filter."""

        def read() -> int:
            if condition is None:
                with self._opened.reading() as reader:
                    return reader.count()
            with self._opened.read_view() as view:
                return len(view.matching(condition))

        return self._opened.run(read)

    def scan(self, condition: Filter | None, after: DocumentId | None = None) -> Iterator[Document]:
        """All documents, or those that match a filter, a thousand per transaction.

        :param after: a document, behind which it begins.
        """
        last = -1
        if after is not None:
            with self._opened.reading() as reader:
                row = reader.rows_of_ids(check_ids([after])).get(after)
            if row is None:
                raise InputError(f"There is no document {after!r} to go on behind.")
            last = row
        return self._all(last) if condition is None else self._matching(condition, last)

    def vectors_by_text(self, ids: Sequence[DocumentId]) -> dict[str, Any]:
        """Stored vectors (dim,) of documents and of their chunks, by text."""
        checked = check_ids(ids)

        def read() -> dict[str, Any]:
            with self._opened.reading() as reader:
                rows = list(reader.rows_of_ids(checked).values())
                documents = reader.by_rows(rows)
                for pieces in reader.pieces_of(checked).values():
                    documents |= pieces
                stored = reader.vectors_by_row(documents)
            return {documents[row].text: vector for row, vector in stored.items()}

        return self._opened.run(read)

    def vectors(self, ids: Sequence[DocumentId]) -> list[FloatMatrix | None]:
        """Stored vectors (dim,) of documents by id; None where there is none."""
        checked = check_ids(ids)

        def read() -> list[FloatMatrix | None]:
            with self._opened.reading() as reader:
                rows = reader.rows_of_ids(checked)
                stored = reader.vectors_by_row(rows.values())
            return [stored[rows[identifier]] if identifier in rows else None for identifier in checked]

        return self._opened.run(read)

    def _all(self, last: int) -> Iterator[Document]:
        def read(after: int) -> list[tuple[int, Document]]:
            with self._opened.reading() as reader:
                return reader.after(after, _SCAN_AT_ONCE)

        while part := self._opened.run(partial(read, last)):
            last = part[-1][0]
            yield from (document for _, document in part)

    def _matching(self, condition: Filter, last: int) -> Iterator[Document]:
        def matching() -> list[int]:
            with self._opened.read_view() as view:
                return view.matching(condition)

        def read(rows: list[int]) -> dict[int, Document]:
            with self._opened.reading() as reader:
                return reader.by_rows(rows, some=True)

        rows = self._opened.run(matching)
        rows = rows[bisect_right(rows, last) :]
        for start in range(0, len(rows), _SCAN_AT_ONCE):
            part = self._opened.run(partial(read, rows[start : start + _SCAN_AT_ONCE]))
            yield from (part[row] for row in sorted(part))
