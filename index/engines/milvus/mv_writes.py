"""Writes to a collection in Milvus, each seen as a whole or not at all, by one writer at a time.

A write makes its lines before it writes the one that says what the collection is; see
:mod:`index.engines.milvus.mv_state`. Each may be done twice without harm, so that it can be done again where the answer
to it was lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from encoder_tools.errors import FileMissingError, SaveError, UnavailableError
from encoder_tools.protocols import FloatMatrix
from index.collection.metadata_update import metadata_batches
from index.engines.milvus.mv_conditions import among, compiled
from index.engines.milvus.mv_connection import MvDatabase
from index.engines.milvus.mv_lock import WriterLock
from index.engines.milvus.mv_reader import MvReader
from index.engines.milvus.mv_rows import check_line, check_storable, counted, fields, key_of, weights
from index.engines.milvus.mv_state import ALWAYS, State, lines_of, read_state, write_state
from index.engines.milvus.mv_words import with_words
from index.engines.stored_ids import id_of, stored_id
from index.query.filters import Filter
from index.results import DocumentId
from index.storage.schema import About, document_checksum, vector_checksum
from index.storage.writer import Batch, chunk_of_another, id_taken

T = TypeVar("T")
LINE = (
    *("row", "id", "source", "key", "source_key", "text", "metadata", "added", "removed", "length", "checksum"),
    *("vector_checksum", "fields", "tokens", "vector", "weights"),
)
"""All fields of a line."""
_TAKEN_OUT = ("row", "id", "source", "length")
_AT_ONCE = 500
_DEAD_SHARE, _DEAD_LEAST = 0.2, 1000  # of lines, from which on those that are gone are removed
_READ_FOR = 60.0  # seconds for which they stay, for readers of an older state


class MvWriter:
    """Makes writes of one client."""

    def __init__(self, database: MvDatabase) -> None:
        self.database = database
        self.lock = WriterLock(database, self._clean)

    @contextmanager
    def writing(self, token: str = "") -> Iterator[MvWrite]:
        """A write, the only one to this collection meanwhile.

        :param token: of the write; see :attr:`MvWrite.done`.
        """
        after: list[Callable[[], Any]] = []
        with self.lock.held():
            write = MvWrite(self.database, self.lock, token)
            yield write
            if write.end():
                after = write.afterwards
        for call in after:
            with suppress(UnavailableError, SaveError):
                call()

    def _clean(self) -> None:
        """Remove what a write has left that did not end."""
        try:
            state = read_state(self.database)
        except FileMissingError:
            return  # it was removed meanwhile
        lines, last = lines_of(self.database, state.generation), state.sequence
        self.database.call("delete", lines, filter=f"added > {last}")
        while part := self.database.query(lines, f"removed > {last} and removed < {ALWAYS}", LINE, _AT_ONCE):
            self.database.write(lines, [{**line, "removed": ALWAYS} for line in part])


class MvWrites:
    """See :class:`index.collection.engine.Writes`."""

    def __init__(self, writer: MvWriter) -> None:
        self._writer = writer

    def upsert(self, batch: Batch, vectors: FloatMatrix, about: About) -> bool:
        """Store documents, unless the vectors there are another model's."""
        check_storable(list(map(stored_id, batch.ids)), batch.texts, batch.metadata)

        def write(run: MvWrite) -> bool:
            if run.state.about != about:
                return False
            run.upsert(batch, vectors)
            return True

        return self._done(write, True)

    def set_metadata(self, ids: Sequence[DocumentId], metadata: Sequence[Mapping[str, Any] | None]) -> None:
        """Give documents other metadata."""

        def write(run: MvWrite) -> None:
            for batch, vectors in list(metadata_batches(run.reader, ids, metadata)):
                check_storable([], [], batch.metadata)
                run.upsert(batch, vectors)

        self._done(write, None)

    def delete(self, ids: Sequence[DocumentId]) -> int:
        """Delete documents; how many rows that were."""
        stored = [stored_id(identifier) for identifier in ids]
        return self._done(lambda run: run.take_out_documents(stored), 0)

    def delete_where(self, condition: Filter) -> int:
        """Delete what matches a filter; how many rows that were."""

        def write(run: MvWrite) -> int:
            made = compiled(condition, lambda text: with_words(run.reader, text))
            return run.take_out([int(row) for row in run.reader.rows_of(made)])

        return self._done(write, 0)

    def _done(self, write: Callable[[MvWrite], T], result: T) -> T:
        """Do a write, again if the server goes away.

        :param result: of a write that an earlier try has ended, if that did not come to giving one.
        """
        token, results = uuid4().hex, [result]

        def attempt() -> T:
            with self._writer.writing(token) as run:
                if not run.done:
                    results[0] = write(run)
            return results[0]

        return self._writer.database.retried(attempt)


class MvWrite:
    """One write, while the lock is held.

    :ivar state: as it will be.
    :ivar afterwards: what is to be done when it has ended, which may fail.
    """

    def __init__(self, database: MvDatabase, lock: WriterLock, token: str) -> None:
        self._database, self._lock, self._token = database, lock, token
        self.state = self._before = read_state(database)
        self.reader = MvReader(database, self.state)
        self._number = self.state.sequence + 1
        self._gone: set[int] = set()
        self.afterwards: list[Callable[[], Any]] = []

    @property
    def done(self) -> bool:
        """Whether this write has ended already, and only the answer was lost."""
        return bool(self._token) and self.state.token == self._token

    def upsert(self, batch: Batch, vectors: FloatMatrix) -> None:
        """Store documents or chunks in new rows, and take out all rows of the documents with the same ids.

        :raises InputError: if another document has the id of a chunk, or one cannot be stored.
        :raises SaveError: if another process indexes words by other rules.
        """
        words = self.reader.words
        if words.rules != self.state.words:
            raise SaveError(
                f"The words of {self._database.address} are of rules {self.state.words!r}, expected {words.rules!r}. "
                "Nothing was written; use the version that made the collection, or make it anew."
            )
        terms = [words.stored(text) for text in batch.texts]
        length = sum(map(len, terms))
        if not self.state.average and length:
            self.state = self.state._replace(average=length / len(terms))
        lines = list(self._lines(batch, vectors, terms))
        for position, line in enumerate(lines):
            check_line(position, line)
        replaced = batch.ids if batch.sources is None else batch.sources
        self.take_out_documents([stored_id(one) for one in dict.fromkeys(replaced)])
        if batch.sources is not None:
            self._check_free(batch.ids)
        self._write(lines)
        state = self.state
        self.state = state._replace(
            rows=state.rows + len(lines), documents=state.documents + len(lines), length=state.length + length
        )
        self._note()

    def take_out_documents(self, stored: Sequence[str]) -> int:
        """Take out documents with their chunks; how many rows.

        :raises InputError: if one of them is a chunk of a document that would stay.
        """
        keys, named = [key_of(one) for one in stored], set(stored)
        lines = {
            line["row"]: line
            for field in ("key", "source_key")
            for line in self.reader.by_keys(field, keys, _TAKEN_OUT)
        }
        for line in lines.values():
            if line["source"] and line["source"] not in named:
                raise chunk_of_another(id_of(line["id"]), id_of(line["source"]))
        return self.take_out(sorted(lines))

    def take_out(self, rows: Sequence[int]) -> int:
        """Take out rows; how many."""
        length = 0
        for start in range(0, len(rows), _AT_ONCE):
            part = self.reader.query(among("row", rows[start : start + _AT_ONCE]), LINE)
            length += sum(line["length"] for line in part)
            self._write([{**line, "removed": self._number} for line in part])
        if rows:
            self._gone |= set(rows)
            state = self.state
            self.state = state._replace(
                documents=state.documents - len(rows), length=state.length - length, dead=state.dead + len(rows)
            )
            self._note()
            if state.coming is not None:
                lines = lines_of(self._database, state.coming.generation)
                self.afterwards.append(partial(delete_rows, self._database, lines, rows))
        return len(rows)

    def end(self) -> bool:
        """Have it seen; False if there was nothing to do."""
        if self.state == self._before:
            return False
        if self.state.sequence > self._before.sequence:
            self.state = self._vacuumed(self.state._replace(token=self._token)).marked()
        self._lock.check()
        write_state(self._database, self.state)
        return True

    def write_lines(self, collection: str, lines: Sequence[dict[str, Any]]) -> None:
        """Write lines to a collection."""
        for start in range(0, len(lines), _AT_ONCE):
            self._lock.beat()
            self._database.write(collection, lines[start : start + _AT_ONCE])

    def _write(self, lines: Sequence[dict[str, Any]]) -> None:
        self.write_lines(self.reader.lines, lines)

    def _note(self) -> None:
        self.state = self.state._replace(sequence=self._number)

    def _lines(self, batch: Batch, vectors: FloatMatrix, words: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
        sources: Sequence[DocumentId | None] = batch.sources or [None] * len(batch.ids)
        for number, (identifier, source, text, metadata) in enumerate(
            zip(batch.ids, sources, batch.texts, batch.metadata, strict=True)
        ):
            stored, own = stored_id(identifier), counted(words[number])
            whole = "" if source is None else stored_id(source)
            tokens, orders = fields(metadata)
            yield {
                "row": self.state.rows + number,
                **{"id": stored, "source": whole, "key": key_of(stored), "source_key": whole and key_of(whole)},
                **{"text": text, "metadata": metadata, "fields": orders},
                **{"added": self._number, "removed": ALWAYS, "length": len(words[number])},
                "checksum": document_checksum(identifier, text, metadata, source),
                "tokens": sorted(tokens | {term.token for term in own}),
                "weights": weights(own, len(words[number]), self.state.average or 1.0),
                **vector_fields(vectors[number], self.state.about),
            }

    def _check_free(self, ids: Sequence[DocumentId]) -> None:
        keys = [key_of(stored_id(one)) for one in ids]
        taken = [line for line in self.reader.by_keys("key", keys, ("row", "id")) if line["row"] not in self._gone]
        if taken:
            raise id_taken(id_of(taken[0]["id"]))

    def _vacuumed(self, state: State) -> State:
        """Remove lines that are gone for so long that nobody reads them, if there are many."""
        if state.dead < max(_DEAD_LEAST, _DEAD_SHARE * state.documents):
            return state
        old = [number for when, number in state.marks if when < time.time() - _READ_FOR]
        if not old or old[-1] <= state.vacuumed:
            return state
        lines = self.reader.lines
        self._database.call("delete", lines, filter=f"removed <= {old[-1]}")
        return state._replace(dead=self._database.count(lines, f"removed < {ALWAYS}"), vacuumed=old[-1])


def delete_rows(database: MvDatabase, collection: str, rows: Sequence[int]) -> None:
    """Remove lines, whoever may read them."""
    for start in range(0, len(rows), _AT_ONCE):
        database.call("delete", collection, filter=among("row", rows[start : start + _AT_ONCE]))


def vector_fields(vector: Any, about: About) -> dict[str, Any]:
    """What a line has of a vector: numbers of the collection's precision, and their checksum."""
    stored = vector.astype(about.dtype)
    return {"vector": stored.astype("float32").tolist(), "vector_checksum": vector_checksum(stored.tobytes())}
