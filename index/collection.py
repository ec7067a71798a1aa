"""A collection: documents that are never lost, found by the meaning of their text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from encoder_tools.errors import FileMissingError, InputError, SaveError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from encoder_tools.spaces import space_of
from encoder_tools.staging import staged_folder
from index import lexical, pieces, schema, writer
from index.builder import Kind
from index.checks import check_ids, check_metadata, texts_for_ids, unit_vectors
from index.chunking import Chunking, Splitter
from index.database import DATABASE_NAME, Database
from index.encoding import check_model, encode_documents
from index.filters import Filter, read_filter
from index.results import Document, DocumentId, Stats
from index.schema import About
from index.verbs import SearchedCollection
from index.verify import verify

_SCAN_AT_ONCE = 1000


class Collection(SearchedCollection):
    """A folder with one SQLite database, and its vectors in memory.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it. Threads may share it:
    searches run side by side. Other processes may open the same folder: each call sees one committed state, with
    everything that was written before it began. Writers wait ``busy_timeout`` seconds for each other.
    """

    @classmethod
    def create(cls, folder: str | Path, encoder: TextEncoder, *, busy_timeout: float = 5.0) -> Self:
        """Make an empty collection for ``encoder``'s vectors and open it.

        :raises InputError: if ``folder`` exists and is not empty.
        :raises SaveError: if it cannot be written.
        """
        with staged_folder(Path(folder)) as staged:
            schema.create(staged, About(encoder.dim, encoder.fingerprint, space_of(encoder).root))
        return cls.open(folder, encoder, busy_timeout=busy_timeout)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        encoder: TextEncoder | None,
        *,
        busy_timeout: float = 5.0,
        allow_sibling: bool = False,
        index: Kind = "auto",
        recall: float = 0.95,
    ) -> Self:
        """Open a collection and load its vectors.

        :param encoder: the model; None for what needs none: searches by words or by vectors, and all but new texts.
        :param allow_sibling: take an encoder of the same space, if it is not the model that made the vectors: a small
            one that was distilled in the space of a large one then answers queries over the large one's vectors. What
            is stored later must bring its vectors along.
        :param busy_timeout: seconds to wait for another writer.
        :param index: "flat" looks at every vector; "hnsw" at those that a graph leads to, which is built in the
            background; "auto" takes the graph from 20,000 documents on. Filtered searches are exact in any case.
        :param recall: share of the true ten nearest that a graph is tuned to find.
        :raises FileMissingError: if ``folder`` is not there or holds no collection.
        :raises FileCorruptError: if the database is damaged or something else.
        :raises FingerprintError: if the stored vectors are another model's, and it is no sibling or none is allowed.
        :raises InputError: if the encoder gives another width than the stored vectors have.
        """
        folder = Path(folder)
        if index not in ("auto", "flat", "hnsw") or not 0 < recall <= 1:
            raise InputError(f"index is {index!r} and recall {recall!r}, expected auto, flat or hnsw, and a share.")
        if not folder.is_dir():
            raise FileMissingError(f"{folder} is not a folder. Make the collection with Collection.create.")
        with ExitStack() as on_error:
            database = Database(folder, busy_timeout=busy_timeout)
            on_error.callback(database.close)
            about = schema.read_about(database)
            sibling = check_model(folder, about, encoder, allow_sibling=allow_sibling)
            collection = cls(folder, encoder, database, about, sibling=sibling, index=index, recall=recall)
            collection.refresh()
            on_error.pop_all()
        return collection

    def upsert(
        self,
        ids: Sequence[DocumentId],
        texts: Sequence[str],
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        chunking: Chunking | None = None,
        show_progress: bool | None = None,
    ) -> int:
        """Store documents, replacing those with the same ids; all or nothing, on disk when this returns.

        :param metadata: one JSON object (or None) per document.
        :param vectors: (n, dim) of this collection's model, if they are there already; brought to length one.
        :param chunking: store the documents in pieces, each found by itself; see :func:`index.pieces.cut_documents`.
            A document is replaced and deleted as a whole, by its own id; pieces that are as they were are not encoded
            again.
        :param show_progress: a bar while encoding; None shows it for long inputs on a terminal.
        :return: how many documents were written: with ``chunking``, those that are stored just so are passed over.
        :raises InputError: for wrong ids, texts, metadata or vectors; nothing is written.
        :raises SaveError: if another writer does not finish in time or the disk is full; nothing is written.
        """
        checked_ids = check_ids(ids)
        checked_texts = texts_for_ids(texts, len(checked_ids))
        checked_metadata = check_metadata(metadata, len(checked_ids))
        self._check_open()
        if not checked_ids:
            return 0
        if chunking is not None:
            if vectors is not None:
                raise InputError("vectors are of whole documents, so they cannot come with chunking. Leave one out.")
            return self._upsert_pieces(Splitter(chunking, self._model()), ids, checked_texts, metadata, show_progress)
        if vectors is None:
            vectors = self._document_vectors(checked_texts, show_progress)
        units = unit_vectors(vectors, self._about.dim)
        if len(units) != len(checked_ids):
            raise InputError(f"Found {len(units)} vectors for {len(checked_ids)} ids, expected one vector per id.")
        self._write(writer.Batch(checked_ids, checked_texts, checked_metadata), units)
        return len(checked_ids)

    def delete(self, ids: Sequence[DocumentId] | None = None, *, where: Mapping[str, Any] | None = None) -> int:
        """Take out documents, all or nothing, on disk when this returns; ids that are not there are no error.

        :param ids: those called so, with their pieces; or else
        :param where: those that match a filter; see :mod:`index.filters`.
        :return: how many there were, each piece counted.
        :raises InputError: for ids that are not distinct strings or integers, a wrong filter, or both or neither.
        :raises SaveError: as in :meth:`upsert`.
        """
        if (ids is None) == (where is None):
            raise InputError("delete takes ids or where, one of them.")
        if where is not None:
            return self._delete_where(read_filter(where))
        checked = check_ids(ids)
        self._check_open()
        if not checked:
            return 0
        with self._database.writing() as connection:
            gone = writer.delete(connection, checked)
            writer.trim(connection, self._live.builder.kept)
            return gone

    def get(self, ids: Sequence[DocumentId]) -> list[Document | None]:
        """The documents called ``ids``, in that order; None where there is none.

        :raises InputError: for ids that are not distinct strings or integers.
        """
        checked = check_ids(ids)
        with self._reading() as reader:
            return [reader.by_id(identifier) for identifier in checked]

    def scan(self, *, where: Mapping[str, Any] | None = None) -> Iterator[Document]:
        """All documents, or those that match a filter, in the order they were last written.

        What is written meanwhile may or may not come.

        :raises InputError: for a wrong filter.
        """
        return self._scan_all() if where is None else self._scan_where(read_filter(where))

    def count(self, *, where: Mapping[str, Any] | None = None) -> int:
        """How many documents are stored, or match a filter.

        :raises InputError: for a wrong filter.
        """
        if where is None:
            with self._reading() as reader:
                return reader.count()
        wanted = read_filter(where)
        with self._at_rest() as rest:
            return len(rest.matching(wanted))

    def refresh(self) -> None:
        """Load what other processes wrote since the last call. Searches do so themselves; this only does it earlier.

        :raises FileCorruptError: if stored vectors are damaged.
        """
        with self._at_rest():
            pass

    def compact(self) -> None:
        """Build the graph that searches should have by now, and wait for it; searches go on meanwhile."""
        with self._at_rest() as rest:
            snapshot = rest.snapshot
        self._live.builder.wait_until_built(snapshot)

    def stats(self) -> Stats:
        """What there is, and how it is searched."""
        with self._at_rest() as rest:
            self._live.builder.wait_until_loaded(rest.snapshot)
            graph, why = self._live.builder.graph, self._live.builder.why
            return Stats(
                len(rest.snapshot),
                self._about.dim,
                "flat" if graph is None else "hnsw",
                why,
                None if graph is None else graph.recall,
                None if graph is None else graph.effort,
                sum(file.stat().st_size for file in self._folder.iterdir() if file.is_file()),
            )

    def verify(self) -> int:
        """Read everything, and check it against its checksums and against each other.

        :return: how many documents there are.
        :raises FileCorruptError: naming the first thing that is damaged.
        """
        with self._reading() as reader:
            count = verify(reader, self._database.path)
        with suppress(SaveError), self._database.writing() as connection:  # in a folder that is read alone, not this
            lexical.check(connection)
        return count

    def backup(self, folder: str | Path) -> None:
        """Write a copy of the collection as it is now into a new folder; reading and writing go on meanwhile.

        :raises InputError: if ``folder`` exists and is not empty.
        :raises SaveError: if it cannot be written.
        """
        self._check_open()
        with staged_folder(Path(folder)) as staged:
            self._database.copy(staged / DATABASE_NAME)

    @classmethod
    def drop(cls, folder: str | Path) -> None:
        """Remove a collection's folder, if it is one; close it first.

        :raises FileMissingError: if there is none.
        :raises FileCorruptError: if it is something else, which is left alone.
        """
        database = Database(Path(folder), busy_timeout=0)
        try:
            schema.check_kind(database)
        finally:
            database.close()
        shutil.rmtree(folder)

    def _upsert_pieces(
        self, splitter: Splitter, ids: Sequence[DocumentId], texts: list[str], metadata: Any, show_progress: bool | None
    ) -> int:
        cut = pieces.cut_documents(splitter, check_ids(ids), texts, metadata)
        with self._reading() as reader:
            new = pieces.what_is_new(cut, reader)
        if not new.documents:
            return 0
        unknown = pieces.missing(new)
        encoded: dict[str, Any] = {}
        if unknown:
            vectors = unit_vectors(self._document_vectors(unknown, show_progress), self._about.dim)
            encoded = dict(zip(unknown, vectors, strict=True))
        self._write(new.batch, pieces.with_vectors(new, encoded, self._about.dim))
        return new.documents

    def _document_vectors(self, texts: list[str], show_progress: bool | None) -> FloatMatrix:
        if self._sibling:
            raise InputError(
                f"The vectors of {self._folder} are of model {self._about.fingerprint}, this encoder is only its "
                "sibling. Pass vectors of that model, or open the collection with it."
            )
        return encode_documents(self._model(), texts, show_progress)

    def _write(self, batch: writer.Batch, vectors: FloatMatrix) -> None:
        with self._database.writing() as connection:
            self._check_open()
            writer.upsert(connection, batch, vectors)
            writer.trim(connection, self._live.builder.kept)

    def _delete_where(self, wanted: Filter) -> int:
        self._check_open()
        with self._database.writing() as connection:
            rows = self._live.rest_in(connection).matching(wanted)
            writer.delete_rows(connection, rows)
            writer.trim(connection, self._live.builder.kept)
            return len(rows)

    def _scan_all(self) -> Iterator[Document]:
        last = -1
        while True:
            with self._reading() as reader:
                part = reader.after(last, _SCAN_AT_ONCE)
            if not part:
                return
            last = part[-1][0]
            yield from (document for _, document in part)

    def _scan_where(self, wanted: Filter) -> Iterator[Document]:
        with self._at_rest() as rest:
            rows = rest.matching(wanted)
        for start in range(0, len(rows), _SCAN_AT_ONCE):
            with self._reading() as reader:
                part = reader.by_rows(rows[start : start + _SCAN_AT_ONCE], some=True)
            yield from (part[row] for row in sorted(part))
