"""Writes: documents stored, changed and deleted, and the switch to another model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from encoder_tools.errors import FingerprintError, InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index.collection import chunk_store as pieces
from index.collection.encoding import Model, about_of
from index.collection.engine import Engine
from index.collection.reembedding import Reembedding
from index.documents.chunking import Chunking, Splitter
from index.query.filters import All, has_no_condition, read_filter
from index.query.view import DocumentReader
from index.results import Document, DocumentId
from index.storage.writer import Batch
from index.validation import check_ids, check_metadata, texts_for_ids, unit_vectors

_AT_ONCE = 256


class Writer:
    """Runs checked writes, each all or nothing.

    :param opened: the collection that is written to.
    """

    def __init__(self, opened: Engine) -> None:
        self._opened = opened

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
        """Store documents; see :meth:`index.collection.collection.Collection.upsert`."""
        checked_ids = check_ids(ids)
        checked_texts = texts_for_ids(texts, len(checked_ids))
        checked_metadata = check_metadata(metadata, len(checked_ids))
        self._opened.check_open()
        if not checked_ids:
            return 0
        if known_vectors:
            units = unit_vectors(np.array(list(known_vectors.values())), self._opened.about.dim, name="known vector")
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
        # Encoding takes long, so no transaction is open meanwhile. Before the vectors are written it is checked that
        # they are still of the model that the collection has; if it was re-embedded meanwhile, all begins again.
        while True:
            model = self._opened.model()
            stored = self._opened.run(partial(self._stored, batch, model))
            if stored is None:
                self._opened.follow()
                continue
            known = dict(known_vectors or {}) | stored
            unknown = [text for text in dict.fromkeys(checked_texts) if text not in known]
            if unknown:
                known |= zip(unknown, model.documents(unknown, show_progress), strict=True)
            vectors = np.array([known[text] for text in checked_texts], dtype=np.float32)
            if self._written(batch, vectors, model):
                return len(checked_ids)

    def set_metadata(self, ids: Sequence[DocumentId], metadata: Sequence[Mapping[str, Any] | None]) -> int:
        """Give documents other metadata."""
        checked, own = check_ids(ids), list(metadata)
        check_metadata(own, len(checked))
        self._opened.check_open()
        self._opened.writes.set_metadata(checked, own)
        return len(checked)

    def delete_all(self) -> int:
        """Delete all documents; return how many."""
        self._opened.check_open()
        return self._opened.writes.delete_where(All(()))

    def delete(self, ids: Sequence[DocumentId] | None = None, *, where: Mapping[str, Any] | None = None) -> int:
        """Delete documents by their ids or by a filter; return how many."""
        if (ids is None) == (where is None):
            raise InputError("delete takes ids or where, one of them.")
        if where is not None:
            condition = read_filter(where)
            if has_no_condition(condition):
                raise InputError(
                    "This filter has no condition, so it says nothing of documents. delete_all() deletes all."
                )
            self._opened.check_open()
            return self._opened.writes.delete_where(condition)
        checked = check_ids(ids)
        self._opened.check_open()
        return self._opened.writes.delete(checked) if checked else 0

    def reembed(
        self,
        encoder: TextEncoder,
        *,
        restart: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _count: None,
    ) -> None:
        """Give all documents vectors of another model, and then search with it."""
        self._opened.check_open()
        model = Model(self._opened.folder, about_of(encoder, self._opened.about.storage), encoder)
        run = Reembedding(self._opened, model, restart=restart)
        self._opened.adopt(model)  # before the switch, which searches must not see first
        done, count = run.progress()

        def step(filled: int) -> None:
            nonlocal done
            done += filled
            progress(done, max(count, done))

        progress(done, count)
        run.run(_AT_ONCE, step)
        self._opened.follow()

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
            model = self._opened.model()
            cut = pieces.cut_documents(Splitter(chunking, model.any()), ids, texts, metadata)
            new = self._opened.run(partial(self._new, cut, known_vectors, model))
            if new is None:
                self._opened.follow()
                continue
            if not new.documents:
                return 0
            unknown = pieces.missing(new)
            encoded = dict(zip(unknown, model.documents(unknown, show_progress), strict=True)) if unknown else {}
            if self._written(new.batch, pieces.with_vectors(new, encoded, model.about.dim), model):
                return new.documents

    def _stored(self, batch: Batch, model: Model) -> dict[str, Any] | None:
        """Vectors of documents that get the text again that they have; None where they are another model's by now."""
        with self._opened.reading() as reader:
            return _stored_vectors(reader, batch) if reader.about == model.about else None

    def _new(
        self, cut: dict[DocumentId, list[Document]], known_vectors: Mapping[str, Any], model: Model
    ) -> pieces.Cut | None:
        """What of chunks is new; None where the vectors are another model's by now."""
        with self._opened.reading() as reader:
            return pieces.what_is_new(cut, reader, known_vectors) if reader.about == model.about else None

    def _write_vectors(self, batch: Batch, vectors: Any) -> None:
        model = self._opened.model()
        units = unit_vectors(vectors, model.about.dim)
        if len(units) != len(batch.ids):
            raise InputError(f"Found {len(units)} vectors for {len(batch.ids)} ids, expected one vector per id.")
        if not self._written(batch, units, model):
            raise FingerprintError(
                f"{self._opened.folder} was re-embedded with another model meanwhile: vectors of "
                f"{model.about.fingerprint} cannot be stored there. Nothing was written; encode the texts again."
            )

    def _written(self, batch: Batch, vectors: FloatMatrix, model: Model) -> bool:
        """Store documents, unless the vectors have become another model's since these were made."""
        self._opened.check_open()
        same = self._opened.writes.upsert(batch, vectors, model.about)
        if not same:
            self._opened.follow()
        return same


def _stored_vectors(reader: DocumentReader, batch: Batch) -> dict[str, Any]:
    """Vectors of documents that are stored with the text that they get again, by the text."""
    rows = reader.rows_of_texts(batch.ids, batch.texts)
    vectors = reader.vectors_by_row(set(rows.values()))
    return {text: vectors[row] for text, row in rows.items()}
