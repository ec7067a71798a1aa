"""A collection: documents that are never lost, found by the meaning of their text."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import RLock
from typing import Any, Self

import numpy as np

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from encoder_tools.spaces import check_sibling, space_of
from encoder_tools.staging import staged_folder
from index.checks import check_ids, check_metadata, texts_for_ids, unit_vectors
from index.exact import ExactIndex
from index.results import Document, DocumentId, Hit
from index.store import Store

_ENCODE_AT_ONCE = 1024


class Collection:
    """A folder with one SQLite database, and an exact FAISS index of its vectors in memory.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it. Threads may share it:
    calls wait for each other. Other processes may open the same folder: each call sees one committed state, with
    everything that was written before it began. Writers wait ``busy_timeout`` seconds for each other.
    """

    def __init__(self, folder: Path, encoder: TextEncoder, store: Store) -> None:
        self._folder = folder
        self._encoder = encoder
        self._store = store
        self._lock = RLock()
        self._closed = False
        self._sibling = False
        self._index = ExactIndex(store.dim)
        self._sequence = -1

    @classmethod
    def create(cls, folder: str | Path, encoder: TextEncoder, *, busy_timeout: float = 5.0) -> Self:
        """Make an empty collection for ``encoder``'s vectors and open it.

        :raises InputError: if ``folder`` exists and is not empty.
        :raises SaveError: if it cannot be written.
        """
        with staged_folder(Path(folder)) as staged:
            Store.create(staged, dim=encoder.dim, fingerprint=encoder.fingerprint, space=space_of(encoder).root)
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
            store = Store(folder, busy_timeout=busy_timeout)
            on_error.callback(store.close)
            sibling = _check_model(folder, store, encoder, allow_sibling=allow_sibling)
            collection = cls(folder, encoder, store)
            collection._sibling = sibling
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
                f"The vectors of {self._folder} are of model {self._store.fingerprint}, this encoder is only its "
                "sibling. Pass vectors of that model, or open the collection with it."
            )
        if vectors is None:
            vectors = _encode_documents(self._encoder, checked_texts, show_progress)
        units = unit_vectors(vectors, self._store.dim)
        if len(units) != len(checked_ids):
            raise InputError(f"Found {len(units)} vectors for {len(checked_ids)} ids, expected one vector per id.")
        with self._lock:
            self._check_open()
            self._store.upsert(checked_ids, checked_texts, checked_metadata, units)

    def get(self, ids: Sequence[DocumentId]) -> list[Document | None]:
        """The documents called ``ids``, in that order; None where there is none.

        :raises InputError: for ids that are not distinct strings or integers.
        """
        checked = check_ids(ids)
        with self._lock:
            self._check_open()
            with self._store.reading():
                return [self._store.by_id(identifier) for identifier in checked]

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        return self._store.fingerprint if self._sibling else None

    def count(self) -> int:
        """How many documents are stored."""
        with self._lock:
            self._check_open()
            with self._store.reading():
                return self._store.count()

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
        with self._lock:
            self._check_open()
            with self._store.reading():
                self._catch_up()
                if len(self._index) == 0:
                    return [[] for _ in vectors]
                scores, rows = self._index.search(vectors, k)
                return [
                    [self._hit(row, score) for row, score in zip(hit_rows, hit_scores, strict=True)]
                    for hit_rows, hit_scores in zip(rows.tolist(), scores.tolist(), strict=True)
                ]

    def refresh(self) -> None:
        """Load what other processes wrote since the last call. Searches do so themselves; this only does it earlier.

        :raises FileCorruptError: if stored vectors are damaged.
        """
        with self._lock:
            self._check_open()
            with self._store.reading():
                self._catch_up()

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        with self._lock:
            self._closed = True
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _catch_up(self) -> None:
        sequence = self._store.sequence()
        if sequence == self._sequence:
            return
        for block in self._store.vectors_since(self._sequence):
            self._index.put(block.rows, block.vectors)
        documents, vectors = self._store.count(), len(self._index)
        if documents != vectors:
            raise FileCorruptError(
                f"{self._folder} holds {documents} documents and {vectors} vectors. Restore a backup."
            )
        self._sequence = sequence

    def _hit(self, row: int, score: float) -> Hit:
        found = self._store.by_row(row)
        return Hit(found.id, max(-1.0, min(1.0, score)), found.text, found.metadata)

    def _query_vectors(self, queries: Any) -> FloatMatrix:
        if any(isinstance(query, str) for query in queries):
            queries = self._encoder.encode_query(texts_for_ids(queries, len(queries)))
        return unit_vectors(queries, self._store.dim, name="query vector")

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"The collection {self._folder} is closed. Open it again with Collection.open.")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _check_model(folder: Path, store: Store, encoder: TextEncoder, *, allow_sibling: bool) -> bool:
    """Whether the encoder is a sibling of the model that made the vectors, rather than that model."""
    sibling = check_sibling(
        f"The collection in {folder}",
        store.fingerprint,
        store.space,
        encoder,
        allow=allow_sibling,
        again="re-embed its texts into a new collection",
    )
    if store.dim != encoder.dim:
        raise InputError(f"{folder} holds vectors of width {store.dim}, the encoder gives {encoder.dim}. Set its dim.")
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
