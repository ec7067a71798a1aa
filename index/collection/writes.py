"""The verbs of a collection that write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index.collection import chunk_store as pieces
from index.collection.encoding import Model, about_of
from index.collection.metadata_update import metadata_batches
from index.collection.opened import OpenCollection
from index.collection.reembedding import Reembedding
from index.documents.chunking import Chunking, Splitter
from index.query.filters import All, Filter, has_no_condition, read_filter
from index.results import DocumentId
from index.storage import writer
from index.storage.reader import Reader
from index.storage.schema import about_in
from index.storage.writer import Batch
from index.validation import check_ids, check_metadata, texts_for_ids, unit_vectors

_AT_ONCE = 256


class WrittenCollection(OpenCollection):
    """Storing, deleting, changing the model."""

    def upsert(
        self,
        ids: Sequence[DocumentId],
        texts: Sequence[str],
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        vectors: Any = None,
        *,
        chunking: Chunking | None = None,
        show_progress: bool | None = None,
        known_vectors: Mapping[str, Any] | None = None,
    ) -> int:
        """Store documents, replacing those with the same ids; all or nothing, on disk when this returns.

        :param metadata: one JSON object (or None) per document.
        :param vectors: (n, dim) of this collection's model, if they are there already; brought to length one.
        :param chunking: store the documents in pieces, each found by itself; see
            :func:`index.collection.chunk_store.cut_documents`. A document is replaced and deleted as a whole, by its
            own id; pieces that are as they were are not encoded again.
        :param known_vectors: unit vectors (dim,) by text, of this collection's model, which are not encoded again. The
            text of a document that is stored with another text alone is encoded; one with other metadata is not.
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
        if known_vectors:
            units = unit_vectors(np.array(list(known_vectors.values())), self._live.about.dim, name="known vector")
            known_vectors = dict(zip(known_vectors, units, strict=True))
        if chunking is not None:
            if vectors is not None:
                raise InputError("vectors are of whole documents, so they cannot come with chunking. Leave one out.")
            return self._upsert_pieces(
                chunking, checked_ids, checked_texts, metadata, show_progress, known_vectors or {}
            )
        batch = Batch(checked_ids, checked_texts, checked_metadata)
        if vectors is not None:
            self._write_vectors(batch, vectors)
            return len(checked_ids)
        while True:
            model = self._model()
            with self._reading() as reader:
                same = reader.about == model.about
                known = dict(known_vectors or {}) | (_stored_vectors(reader, batch) if same else {})
            if not same:
                self._follow()
                continue
            unknown = [text for text in dict.fromkeys(checked_texts) if text not in known]
            if unknown:
                known |= zip(unknown, model.documents(unknown, show_progress), strict=True)
            vectors = np.array([known[text] for text in checked_texts], dtype=np.float32)
            if self._written(batch, vectors, model):
                return len(checked_ids)

    def set_metadata(self, ids: Sequence[DocumentId], metadata: Sequence[Mapping[str, Any] | None]) -> int:
        """Give documents other metadata, all or nothing; their texts and vectors stay, and nothing is encoded.

        :param metadata: one JSON object (or None) per document, in the place of what there was.
        :return: how many documents were changed.
        :raises InputError: for ids that are not there, or wrong metadata; nothing is written.
        :raises SaveError: as in :meth:`upsert`.
        """
        checked, own = check_ids(ids), list(metadata)
        check_metadata(own, len(checked))
        self._check_open()
        with self._database.writing() as connection:
            reader = Reader(connection, self._database.path)
            for batch, vectors in metadata_batches(reader, checked, own):
                writer.upsert(connection, batch, vectors)
            writer.trim(connection, self._live.kept)
        self._live.after_write()
        return len(checked)

    def delete_all(self) -> int:
        """Take out all documents; return how many there were, each piece counted.

        :raises SaveError: as in :meth:`upsert`.
        """
        return self._delete(lambda connection: self._delete_where(connection, All(())))

    def delete(self, ids: Sequence[DocumentId] | None = None, *, where: Mapping[str, Any] | None = None) -> int:
        """Take out documents, all or nothing, on disk when this returns; ids that are not there are no error.

        :param ids: those called so, with their pieces; or else
        :param where: those that match a filter; see :mod:`index.query.filters`.
        :return: how many there were, each piece counted.
        :raises InputError: for ids that are not distinct strings or integers, the id of a piece, a wrong filter, one
            without a condition, or both or neither.
        :raises SaveError: as in :meth:`upsert`.
        """
        if (ids is None) == (where is None):
            raise InputError("delete takes ids or where, one of them.")
        if where is not None:
            wanted = read_filter(where)
            if has_no_condition(wanted):
                raise InputError(
                    "This filter has no condition, so it says nothing of documents. delete_all() deletes all."
                )
            return self._delete(lambda connection: self._delete_where(connection, wanted))
        checked = check_ids(ids)
        return self._delete(lambda connection: writer.delete(connection, checked)) if checked else 0

    def reembed(
        self,
        encoder: TextEncoder,
        *,
        restart: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _count: None,
    ) -> None:
        """Give all documents vectors of another model, from their stored texts, and then search with it.

        Searches and writes go on meanwhile, here and in other processes, with the vectors that were there; what is
        written meanwhile gets its new vector too. Then all change at once. A run that was cut goes on where it was.
        This collection goes on with the new model by itself; others must be opened again with it.

        :param encoder: the new model.
        :param restart: begin anew, where another model was begun with.
        :param progress: called with how many documents have their new vector, and how many there are.
        :raises InputError: if another model was begun with, or the vectors are this model's already.
        :raises SaveError: if another process takes it over, or the disk is full; the old vectors still serve.
        """
        self._check_open()
        model = Model(self._folder, about_of(encoder), encoder)
        run = Reembedding(self._database, model, restart=restart)
        self._models = {**self._models, model.about: model}  # before the switch, which searches must not see first
        done, count = run.progress()

        def step(filled: int) -> None:
            nonlocal done
            done += filled
            progress(done, max(count, done))

        progress(done, count)
        run.run(_AT_ONCE, step)
        self._follow()

    def _upsert_pieces(
        self,
        chunking: Chunking,
        ids: list[DocumentId],
        texts: list[str],
        metadata: Any,
        show_progress: bool | None,
        known_vectors: Mapping[str, Any],
    ) -> int:
        while True:
            model = self._model()
            cut = pieces.cut_documents(Splitter(chunking, model.any()), ids, texts, metadata)
            with self._reading() as reader:
                new = pieces.what_is_new(cut, reader, known_vectors)
                same = reader.about == model.about
            if not same:
                self._follow()
                continue
            if not new.documents:
                return 0
            unknown = pieces.missing(new)
            encoded = dict(zip(unknown, model.documents(unknown, show_progress), strict=True)) if unknown else {}
            if self._written(new.batch, pieces.with_vectors(new, encoded, model.about.dim), model):
                return new.documents

    def _write_vectors(self, batch: Batch, vectors: Any) -> None:
        model = self._model()
        units = unit_vectors(vectors, model.about.dim)
        if len(units) != len(batch.ids):
            raise InputError(f"Found {len(units)} vectors for {len(batch.ids)} ids, expected one vector per id.")
        if not self._written(batch, units, model):
            raise FingerprintError(
                f"{self._folder} was re-embedded with another model meanwhile: vectors of {model.about.fingerprint} "
                "cannot be stored there. Nothing was written; encode the texts again."
            )

    def _written(self, batch: Batch, vectors: FloatMatrix, model: Model) -> bool:
        """Store documents, unless the vectors have become another model's since these were made."""
        with self._database.writing() as connection:
            self._check_open()
            same = about_in(connection, self._database.path) == model.about
            if same:
                writer.upsert(connection, batch, vectors)
                writer.trim(connection, self._live.kept)
        if same:
            self._live.after_write()
        else:
            self._follow()
        return same

    def _follow(self) -> None:
        """Find out which model the vectors are of now."""
        with self._at_rest():
            pass

    def _delete(self, delete: Callable[[sqlite3.Connection], int]) -> int:
        self._check_open()
        with self._database.writing() as connection:
            gone = delete(connection)
            writer.trim(connection, self._live.kept)
            return gone

    def _delete_where(self, connection: sqlite3.Connection, wanted: Filter) -> int:
        rows = self._live.rest_in(connection).matching(wanted)
        writer.delete_rows(connection, rows)
        return len(rows)


def _stored_vectors(reader: Reader, batch: Batch) -> dict[str, Any]:
    """Vectors of documents that are stored with the text that they get again, by the text."""
    rows = reader.rows_of_texts(batch.ids, batch.texts)
    vectors: dict[int, Any] = {}
    for block in reader.vectors(sorted(set(rows.values()))):
        vectors |= zip(block.rows.tolist(), block.vectors, strict=True)
    return {text: vectors[row] for text, row in rows.items()}
