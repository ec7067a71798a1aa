"""A collection: documents that are never lost, found by the meaning of their text."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import FileMissingError, InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from encoder_tools.spaces import check_sibling, space_of
from encoder_tools.staging import staged_folder
from index import schema, writer
from index.checks import check_ids, check_metadata, texts_for_ids, unit_vectors
from index.database import DATABASE_NAME, Database
from index.reader import Reader
from index.results import Document, DocumentId, Hit
from index.schema import About
from index.snapshot import Snapshot, Snapshots
from index.verify import verify

_ENCODE_AT_ONCE = 1024
_SCAN_AT_ONCE = 1000


class Collection:
    """A folder with one SQLite database, and its vectors in memory.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it. Threads may share it:
    searches run side by side. Other processes may open the same folder: each call sees one committed state, with
    everything that was written before it began. Writers wait ``busy_timeout`` seconds for each other.
    """

    def __init__(self, folder: Path, encoder: TextEncoder, database: Database, about: About, *, sibling: bool) -> None:
        self._folder, self._encoder, self._database, self._about = folder, encoder, database, about
        self._sibling = sibling
        self._closed = False
        self._advancing = threading.Lock()
        self._snapshots = Snapshots(about.dim, str(folder))

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
        cls, folder: str | Path, encoder: TextEncoder, *, busy_timeout: float = 5.0, allow_sibling: bool = False
    ) -> Self:
        """Open a collection and load its vectors.

        :param allow_sibling: take an encoder of the same space, if it is not the model that made the vectors: a small
            one that was distilled in the space of a large one then answers queries over the large one's vectors. What
            is stored later must bring its vectors along.
        :param busy_timeout: seconds to wait for another writer.
        :raises FileMissingError: if ``folder`` is not there or holds no collection.
        :raises FileCorruptError: if the database is damaged or something else.
        :raises FingerprintError: if the stored vectors are another model's, and it is no sibling or none is allowed.
        :raises InputError: if the encoder gives another width than the stored vectors have.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileMissingError(f"{folder} is not a folder. Make the collection with Collection.create.")
        with ExitStack() as on_error:
            database = Database(folder, busy_timeout=busy_timeout)
            on_error.callback(database.close)
            about = schema.read_about(database)
            sibling = _check_model(folder, about, encoder, allow_sibling=allow_sibling)
            collection = cls(folder, encoder, database, about, sibling=sibling)
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
        show_progress: bool | None = None,
    ) -> None:
        """Store documents, replacing those with the same ids; all or nothing, on disk when this returns.

        :param metadata: one JSON object (or None) per document.
        :param vectors: (n, dim) of this collection's model, if they are there already; brought to length one.
        :param show_progress: a bar while encoding; None shows it for long inputs on a terminal.
        :raises InputError: for wrong ids, texts, metadata or vectors; nothing is written.
        :raises SaveError: if another writer does not finish in time or the disk is full; nothing is written.
        """
        checked_ids = check_ids(ids)
        checked_texts = texts_for_ids(texts, len(checked_ids))
        checked_metadata = check_metadata(metadata, len(checked_ids))
        self._check_open()
        if not checked_ids:
            return
        if vectors is None and self._sibling:
            raise InputError(
                f"The vectors of {self._folder} are of model {self._about.fingerprint}, this encoder is only its "
                "sibling. Pass vectors of that model, or open the collection with it."
            )
        if vectors is None:
            vectors = _encode_documents(self._encoder, checked_texts, show_progress)
        units = unit_vectors(vectors, self._about.dim)
        if len(units) != len(checked_ids):
            raise InputError(f"Found {len(units)} vectors for {len(checked_ids)} ids, expected one vector per id.")
        with self._database.writing() as connection:
            self._check_open()
            writer.upsert(connection, checked_ids, checked_texts, checked_metadata, units)

    def delete(self, ids: Sequence[DocumentId]) -> int:
        """Take out the documents called ``ids``, all or nothing, on disk when this returns; ids that are not there are
        no error.

        :return: how many there were.
        :raises InputError: for ids that are not distinct strings or integers.
        :raises SaveError: as in :meth:`upsert`.
        """
        checked = check_ids(ids)
        self._check_open()
        if not checked:
            return 0
        with self._database.writing() as connection:
            return writer.delete(connection, checked)

    def get(self, ids: Sequence[DocumentId]) -> list[Document | None]:
        """The documents called ``ids``, in that order; None where there is none.

        :raises InputError: for ids that are not distinct strings or integers.
        """
        checked = check_ids(ids)
        with self._reading() as reader:
            return [reader.by_id(identifier) for identifier in checked]

    def scan(self) -> Iterator[Document]:
        """All documents, in the order they were last written; what is written meanwhile may or may not come."""
        last = -1
        while True:
            with self._reading() as reader:
                part = reader.after(last, _SCAN_AT_ONCE)
            if not part:
                return
            last = part[-1][0]
            yield from (document for _, document in part)

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        return self._about.fingerprint if self._sibling else None

    def count(self) -> int:
        """How many documents are stored."""
        with self._reading() as reader:
            return reader.count()

    def search(self, query: Any, k: int = 10) -> list[Hit]:
        """The ``k`` documents nearest to a text or a vector (dim,), best first; all of them if there are fewer.

        :raises InputError: for a query that is neither, a zero vector, NaN, or ``k`` below 1.
        """
        if not isinstance(query, str) and not (_is_list(query) and not any(map(_is_list, query))):
            raise InputError("The query is neither a text nor one vector (dim,). Use search_many for several.")
        return self.search_many([query], k)[0]

    def search_many(self, queries: Any, k: int = 10) -> list[list[Hit]]:
        """Hits for each of several texts, or of several vectors (n, dim); see :meth:`search`.

        :raises InputError: as in :meth:`search`.
        """
        k = checked_integer(k, "k", 1)
        self._check_open()
        if not _is_list(queries):
            raise InputError(f"Queries are a {type(queries).__name__}, expected a list. Use search for a single one.")
        if len(queries) == 0:
            return []
        vectors = self._query_vectors(queries)
        with self._at_rest() as (reader, snapshot):
            if not snapshot:
                return [[] for _ in vectors]
            found = snapshot.nearest(vectors, k)
            documents = reader.by_rows(sorted({row for rows, _ in found for row in rows.tolist()}))
            return [
                [_hit(documents[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]
                for rows, scores in found
            ]

    def refresh(self) -> None:
        """Load what other processes wrote since the last call. Searches do so themselves; this only does it earlier.

        :raises FileCorruptError: if stored vectors are damaged.
        """
        with self._at_rest():
            pass

    def verify(self) -> int:
        """Read everything, and check it against its checksums and against each other.

        :return: how many documents there are.
        :raises FileCorruptError: naming the first thing that is damaged.
        """
        with self._reading() as reader:
            return verify(reader, self._database.path)

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

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._closed = True
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[Reader]:
        self._check_open()
        with self._database.reading() as connection:
            yield Reader(connection, self._database.path, self._about.dim)

    @contextmanager
    def _at_rest(self) -> Iterator[tuple[Reader, Snapshot]]:
        """The last committed state, in the database and in memory."""
        while True:
            with self._reading() as reader:
                sequence = reader.sequence()
                snapshot = self._snapshots.current
                if snapshot.sequence < sequence:
                    with self._advancing:
                        snapshot = self._snapshots.advance(reader)
                if snapshot.sequence == sequence:  # else another thread was faster: begin a new transaction
                    yield reader, snapshot
                    return

    def _query_vectors(self, queries: Any) -> FloatMatrix:
        if any(isinstance(query, str) for query in queries):
            queries = self._encoder.encode_query(texts_for_ids(queries, len(queries)))
        return unit_vectors(queries, self._about.dim, name="query vector")

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"The collection {self._folder} is closed. Open it again with Collection.open.")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _hit(document: Document, score: float) -> Hit:
    return Hit(document.id, max(-1.0, min(1.0, score)), document.text, document.metadata)


def _check_model(folder: Path, about: About, encoder: TextEncoder, *, allow_sibling: bool) -> bool:
    """Whether the encoder is a sibling of the model that made the vectors, rather than that model."""
    sibling = check_sibling(
        f"The collection in {folder}",
        about.fingerprint,
        about.space,
        encoder,
        allow=allow_sibling,
        again="re-embed its texts into a new collection",
    )
    if about.dim != encoder.dim:
        raise InputError(f"{folder} holds vectors of width {about.dim}, the encoder gives {encoder.dim}. Set its dim.")
    return sibling


def _encode_documents(encoder: TextEncoder, texts: Sequence[str], show_progress: bool | None) -> FloatMatrix:
    """Encode in slices, so that a bar can move; the protocol itself knows no progress."""
    starts = range(0, len(texts), _ENCODE_AT_ONCE)
    if show_progress is None:
        show_progress = len(starts) > 1 and sys.stderr.isatty()
    from tqdm import tqdm

    with tqdm(total=len(texts), unit="text", desc="encode", disable=not show_progress) as bar:
        parts = []
        for start in starts:
            parts.append(encoder.encode_document(texts[start : start + _ENCODE_AT_ONCE]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)
