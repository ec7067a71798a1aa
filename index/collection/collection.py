"""The class Collection: durable documents, searched by meaning, by words, or by both."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from encoder_tools.errors import InputError
from encoder_tools.io.staging import staged_folder
from encoder_tools.protocols import FloatMatrix, TextEncoder
from index.ann.index_types import IndexType
from index.collection.embedded.opening import OpenOptions, open_state
from index.collection.encoding import about_of, is_vector
from index.collection.engine import Engine, engine_type
from index.collection.reads import Reads
from index.collection.rescored import prepare
from index.collection.searcher import Searcher
from index.collection.writes import Writer
from index.documents.chunking import Chunking
from index.query.filters import read_filter
from index.query.fusion import Fusion
from index.query.projection import Projection, project
from index.query.search import Mode, Search
from index.rescoring.rescorer import Rescore
from index.results import Document, DocumentId, Hits, Stats
from index.storage import schema
from index.storage.database import Database
from index.storage.precision import STORAGES, Storage
from index.storage.schema import About


class Collection:
    """A folder with one SQLite database, and its vectors in memory.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it. Threads may share it:
    searches run side by side. Other processes may open the same folder: each call sees one committed state, with
    everything that was written before it began. Writers wait ``busy_timeout`` seconds for each other.

    Example:
        >>> from encoder_tools import OnnxEncoder
        >>> from index import Collection
        >>> with Collection.create("faq", OnnxEncoder()) as collection:
        ...     collection.upsert(["card", "rate"], ["My card has not arrived.", "Which exchange rate do you use?"])
        ...     [hit.id for hit in collection.search("Where is my bank card?", k=1)]
        2
        ['card']
    """

    def __init__(self, opened: Engine) -> None:
        self.opened = opened
        self._reads, self._searcher, self._writer = Reads(opened), Searcher(opened), Writer(opened)

    @classmethod
    def create(
        cls,
        folder: str | Path,
        encoder: TextEncoder,
        *,
        busy_timeout: float = 5.0,
        stemming: str | None = None,
        storage: Storage = "float32",
    ) -> Self:
        """Make an empty collection for ``encoder``'s vectors and open it.

        :param folder: that is made; it may exist if it is empty. Or the address of another engine, such as
            ``postgresql://user@host/database?collection=faq`` or ``milvus://host?collection=faq``; see
            :mod:`index.engines`.
        :param encoder: the model; its fingerprint is stored, and other models are rejected from then on.
        :param busy_timeout: seconds to wait for another writer.
        :param stemming: a language of Snowball ("english", "german", ...): the search by words and ``$text`` then match
            a word by its stem ("cards" by "card"). It holds for the life of the collection. None takes words as they
            are written.
        :param storage: how the vectors are kept, for the life of the collection. "float32" loses nothing; "float16"
            takes half the disk and memory, and a cosine differs in the fifth digit; "int8" keeps float16 on disk alone,
            and in memory one byte a number and the graph: about 650 bytes a document at 384 dimensions; "binary" one
            bit a number, about 280, for vectors of some hundred numbers; where that finds too little, int8 is taken.
        :raises InputError: if ``folder`` exists and is not empty, or there is no such language or storage.
        :raises MissingExtraError: if stemming is not installed.
        :raises SaveError: if it cannot be written.

        Example:
            >>> from encoder_tools import OnnxEncoder
            >>> Collection.create("notes", OnnxEncoder()).close()
        """
        if storage not in STORAGES:
            raise InputError(f"storage is {storage!r}, expected one of {', '.join(STORAGES)}.")
        engine = engine_type(folder)
        if engine is not None:
            engine.create(
                str(folder), encoder, {"storage": storage, "stemming": stemming, "busy_timeout": busy_timeout}
            )
            return cls.open(folder, encoder, busy_timeout=busy_timeout)
        with staged_folder(Path(folder)) as staged:
            schema.create(staged, about_of(encoder, storage), stemming)
        return cls.open(folder, encoder, busy_timeout=busy_timeout)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        encoder: TextEncoder | None,
        *,
        busy_timeout: float = 5.0,
        allow_sibling: bool = False,
        index: IndexType = "auto",
        recall: float = 0.95,
        remember_queries: bool = True,
    ) -> Self:
        """Open a collection and load its vectors. One of an older version is brought to this one, which is logged.

        :param encoder: the model; None for what needs none: searches by words or by vectors, and all but new texts.
        :param allow_sibling: take an encoder of the same embedding space, if it is not the model that made the vectors:
            a small one that was distilled in the space of a large one then answers queries over the large one's
            vectors. What is stored later must bring its vectors along.
        :param busy_timeout: seconds to wait for another writer.
        :param index: "flat" compares with every vector; "hnsw" with those that a graph leads to, which is built in the
            background; "ivf" with those in some of many lists, built much faster and searched somewhat slower; "auto"
            takes the graph from 20,000 documents on. Filtered searches are exact, or have the recall of others.
        :param recall: share of the true 1, 10 and 100 nearest that searches are tuned to return, for the worst of
            several groups of queries; see :mod:`index.ann.tuning`.
        :param remember_queries: keep a sample of 256 query vectors, in memory and in the folder, to tune with; no
            texts.
        :raises FileMissingError: if ``folder`` does not exist or holds no collection.
        :raises FileCorruptError: if the database is damaged or something else.
        :raises FingerprintError: if the stored vectors are another model's, and it is no sibling or none is allowed.
        :raises InputError: if the encoder gives another width than the stored vectors have.

        A folder on a network disk is warned of.

        Example:
            >>> from encoder_tools import OnnxEncoder
            >>> encoder = OnnxEncoder()
            >>> Collection.create("notes", encoder).close()
            >>> with Collection.open("notes", encoder, recall=0.99) as collection:
            ...     collection.count()
            0
        """
        engine = engine_type(folder)
        if engine is not None:
            chosen = {"busy_timeout": busy_timeout, "allow_sibling": allow_sibling, "index": index, "recall": recall}
            return cls(engine.open(str(folder), encoder, chosen))
        options = OpenOptions(busy_timeout, allow_sibling, index, recall, remember_queries)
        return cls(open_state(Path(folder), encoder, options))

    @classmethod
    def drop(cls, folder: str | Path) -> None:
        """Remove a collection's folder, if it is one; close it first.

        :raises FileMissingError: if there is none.
        :raises FileCorruptError: if it is something else, which is left alone.
        """
        engine = engine_type(folder)
        if engine is not None:
            return engine.drop(str(folder))
        database = Database(Path(folder), busy_timeout=0)
        try:
            schema.check_kind(database)
        finally:
            database.close()
        shutil.rmtree(folder)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self.opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path | str:
        """Where it lies."""
        return self.opened.folder

    @property
    def about(self) -> About:
        """Width, model and embedding space of the vectors."""
        return self.opened.about

    @property
    def sibling(self) -> str | None:
        """Fingerprint of the model that made the vectors, if the encoder is only its sibling."""
        return self.opened.sibling

    @property
    def sequence(self) -> int:
        """A number that every write raises."""
        with self.opened.read_view() as view:
            return view.sequence

    def search(
        self,
        query: str | FloatMatrix,
        k: int = 10,
        *,
        mode: Mode = "dense",
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        offset: int = 0,
        fusion: Fusion = "rrf",
        weights: Mapping[str, float] | None = None,
        group_by: str | None = None,
        diversity: float = 0.0,
        highlight: bool = False,
        neighbors: int = 0,
        rescore: Rescore | None = None,
        vectors: Any = None,
    ) -> Hits:
        """The ``k`` documents that match a text or a vector best, best first; all of them if there are fewer.

        :param query: a text, or one vector (dim,) of any length but zero.
        :param k: how many hits; at least 1.
        :param mode: "dense", by the cosine of the vectors; "lexical", by words (texts alone); "hybrid", by both.
        :param where: only among the documents that match a filter; see :mod:`index.query.filters`. Where few match all
            of them are compared, else the graph is used, as without a filter; see :mod:`index.query.planner`.
        :param min_score: leave out hits that score less.
        :param offset: leave out as many of the best, for further pages.
        :param fusion: of a hybrid search: "rrf", by ranks; "weighted", by scores scaled to [0, 1].
        :param weights: of its parts, "dense" and "lexical"; 1 if not given.
        :param group_by: a metadata field: of the documents with the same value, such as the chunks of one text, only
            the best.
        :param diversity: of a dense search: how much being unlike the hits before counts, from 0 to 1. Source:
            Carbonell and Goldstein, "The use of MMR", SIGIR 1998.
        :param highlight: give each hit the spans of the query's words in its text (texts alone).
        :param neighbors: give each hit that is a chunk so many chunks before and after it.
        :param rescore: "tokens" ranks the first 50 hits again, by MaxSim over the vectors of their tokens and the
            cosine, and gives no others. Texts are encoded for this once; :meth:`prepare_rescoring` does so beforehand.
            See :mod:`index.rescoring.token_codes`.
        :param vectors: (1, dim) of the query's text, if it has been encoded already.
        :return: the hits; their ``plan`` says how they were found.
        :raises InputError: for a query that is neither, a zero vector, NaN, ``k`` below 1, or a wrong option.
        :raises FingerprintError: if another process has re-embedded the collection with a model unknown here.

        Example:
            >>> from encoder_tools import OnnxEncoder
            >>> with Collection.create("faq", OnnxEncoder()) as collection:
            ...     texts = ["Karte sperren", "Block a card", "Exchange rates"]
            ...     collection.upsert([1, 2, 3], texts, [{"lang": "de"}, {"lang": "en"}, {"lang": "en"}])
            ...     hits = collection.search("block my card", k=2, mode="hybrid", where={"lang": "en"})
            3
            >>> hits[0].id, hits[0].text
            (2, 'Block a card')
        """
        if not isinstance(query, str) and not is_vector(query):
            raise InputError("The query is neither a text nor one vector (dim,). Use search_many for several.")
        return self.search_many(
            [query],
            k,
            mode=mode,
            where=where,
            min_score=min_score,
            offset=offset,
            fusion=fusion,
            weights=weights,
            group_by=group_by,
            diversity=diversity,
            highlight=highlight,
            neighbors=neighbors,
            rescore=rescore,
            vectors=vectors,
        )[0]

    def search_many(
        self,
        queries: Any,
        k: int = 10,
        *,
        mode: Mode = "dense",
        where: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        offset: int = 0,
        fusion: Fusion = "rrf",
        weights: Mapping[str, float] | None = None,
        group_by: str | None = None,
        diversity: float = 0.0,
        highlight: bool = False,
        neighbors: int = 0,
        rescore: Rescore | None = None,
        vectors: Any = None,
    ) -> list[Hits]:
        """Hits for each of several texts, or of several vectors (n, dim); options as in :meth:`search`.

        :param vectors: (n, dim) of the queries' texts, if they have been encoded already.
        :raises InputError: as in :meth:`search`.
        """
        search = Search.checked(k, offset, mode, where, min_score, fusion, weights, group_by, diversity, rescore)
        return self._searcher.search(search, queries, vectors=vectors, highlight=highlight, neighbors=neighbors)

    def search_like(self, identifier: DocumentId, k: int = 10, *, where: Mapping[str, Any] | None = None) -> Hits:
        """The ``k`` documents nearest to a stored one, itself left out.

        :raises InputError: if there is no such document, or as in :meth:`search`.
        """
        return self._searcher.search_like(
            identifier, Search.checked(k, 0, "dense", where, None, "rrf", None, None, 0.0)
        )

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

        :param ids: distinct strings or integers.
        :param metadata: one JSON object (or None) per document.
        :param vectors: (n, dim) of this collection's model, if they have been computed already; normalized here.
        :param chunking: store the documents in chunks, each of which is a hit of its own; see
            :func:`index.collection.chunk_store.cut_documents`. A document is replaced and deleted as a whole, by its
            own id; chunks that have not changed are not encoded again.
        :param known_vectors: unit vectors (dim,) by text, of this collection's model, which are not encoded again. Of
            stored documents only those whose text has changed are encoded, not those whose metadata alone have.
        :param show_progress: a bar while encoding; None shows it for long inputs on a terminal.
        :return: how many documents were written: with ``chunking``, those that have not changed are not counted.
        :raises InputError: for wrong ids, texts, metadata or vectors; nothing is written.
        :raises SaveError: if another writer does not finish in time or the disk is full; nothing is written.

        Example:
            >>> from encoder_tools import OnnxEncoder
            >>> from index import Chunking
            >>> with Collection.create("books", OnnxEncoder()) as collection:
            ...     collection.upsert(["a"], ["A long text. " * 200], [{"author": "x"}], chunking=Chunking(tokens=64))
            ...     collection.search("long text", k=1)[0].metadata["author"]
            1
            'x'
        """
        return self._writer.upsert(
            ids,
            texts,
            metadata,
            vectors,
            chunking=chunking,
            show_progress=show_progress,
            known_vectors=known_vectors,
        )

    def set_metadata(self, ids: Sequence[DocumentId], metadata: Sequence[Mapping[str, Any] | None]) -> int:
        """Give documents other metadata, all or nothing; their texts and vectors stay, and nothing is encoded.

        :param metadata: one JSON object (or None) per document, which replaces what it had.
        :return: how many documents were changed.
        :raises InputError: for ids that are not stored, or wrong metadata; nothing is written.
        :raises SaveError: as in :meth:`upsert`.
        """
        return self._writer.set_metadata(ids, metadata)

    def delete(self, ids: Sequence[DocumentId] | None = None, *, where: Mapping[str, Any] | None = None) -> int:
        """Delete documents, all or nothing, on disk when this returns; unknown ids are no error.

        :param ids: of the documents, which go with their chunks; or else
        :param where: a filter that they match; see :mod:`index.query.filters`.
        :return: how many were deleted, each chunk counted.
        :raises InputError: for ids that are not distinct strings or integers, the id of a chunk, a wrong filter, one
            without a condition, or both or neither.
        :raises SaveError: as in :meth:`upsert`.

        Example:
            >>> from encoder_tools import OnnxEncoder
            >>> with Collection.create("log", OnnxEncoder()) as collection:
            ...     collection.upsert([1, 2], ["old", "new"], [{"year": 1999}, {"year": 2026}])
            ...     collection.delete(where={"year": {"$lt": 2000}}), collection.count()
            2
            (1, 1)
        """
        return self._writer.delete(ids, where=where)

    def delete_all(self) -> int:
        """Delete all documents.

        :return: how many were deleted, each chunk counted.
        :raises SaveError: as in :meth:`upsert`.
        """
        return self._writer.delete_all()

    def reembed(
        self,
        encoder: TextEncoder,
        *,
        restart: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _count: None,
    ) -> None:
        """Give all documents vectors of another model, from their stored texts, and then search with it.

        Searches and writes go on meanwhile, here and in other processes, with the old vectors; what is written
        meanwhile gets its new vector too. Then all change at once. An interrupted run resumes. This collection uses the
        new model from then on; other processes must open it again with that model.

        :param encoder: the new model.
        :param restart: begin anew, where a run with another model was interrupted.
        :param progress: called with the number of documents that have their new vector, and of all documents.
        :raises InputError: if another model was begun with, or the vectors are this model's already.
        :raises SaveError: if another process takes the run over, or the disk is full; the old vectors still serve.
        """
        self._writer.reembed(encoder, restart=restart, progress=progress)

    def prepare_rescoring(self, *, show_progress: bool | None = None) -> int:
        """Keep the vectors of all tokens beside the collection, 64 bytes each, so that searches with
        ``rescore="tokens"`` encode the query alone; those of texts that are gone are forgotten.

        :return: how many texts there are.
        :raises InputError: if the collection was opened without a model, or with one that gives no vectors of tokens.
        """
        return prepare(self.opened, self._reads, show_progress=show_progress)

    def get(self, ids: Sequence[DocumentId]) -> list[Document | None]:
        """The documents with these ids, in that order; None where there is none.

        :raises InputError: for ids that are not distinct strings or integers.
        """
        return self._reads.get(ids)

    def ids(self) -> Iterator[DocumentId]:
        """The id of each document, in the order in which they were first written; a document in chunks once."""
        yield from self._reads.ids()

    def scan(self, *, where: Mapping[str, Any] | None = None, after: DocumentId | None = None) -> Iterator[Document]:
        """All documents, or those that match a filter, in the order in which they were last written.

        Documents that are written meanwhile may or may not be among them.

        :param after: the id of a document, behind which it begins: the last one of the page before.
        :raises InputError: for a wrong filter, or where there is no document ``after``.
        """
        return self._reads.scan(None if where is None else read_filter(where), after)

    def count(self, *, where: Mapping[str, Any] | None = None) -> int:
        """How many documents are stored, or match a filter.

        :raises InputError: for a wrong filter.
        """
        return self._reads.count(None if where is None else read_filter(where))

    def vectors_by_text(self, ids: Sequence[DocumentId]) -> dict[str, Any]:
        """Stored vectors (dim,) of documents and of their chunks, by text."""
        return self._reads.vectors_by_text(ids)

    def vectors(self, ids: Sequence[DocumentId]) -> list[FloatMatrix | None]:
        """The stored unit vectors, float32 (dim,), of documents, or of chunks by their own ids; None where is none."""
        return self._reads.vectors(ids)

    def projection(self) -> Projection:
        """Where the documents lie in two dimensions, by the principal components of their vectors."""
        with self.opened.read_view() as view:
            return project(view)

    def layout(self) -> Projection:
        """Deprecated name of :meth:`projection`, until 0.2."""
        warnings.warn("Collection.layout is called Collection.projection now.", DeprecationWarning, stacklevel=2)
        return self.projection()

    def stats(self) -> Stats:
        """What there is, and how it is searched: the index, its measured recall, bytes on disk."""
        return self.opened.stats()

    def refresh(self) -> None:
        """Load what other processes wrote since the last call. Searches do so themselves; this only does it earlier.

        :raises FileCorruptError: if stored vectors are damaged.
        """
        self.opened.follow()

    def compact(self) -> None:
        """Build the index that searches should have by now, and give back disk space that deletes have left.

        Searches go on meanwhile, and others wait to write only while the file is made smaller.

        :raises SaveError: if another writer does not finish in time, or the disk is full; nothing has changed then.
        """
        self.opened.compact()

    def verify(self) -> int:
        """Read everything, and check it against its checksums and against each other.

        :return: how many documents there are.
        :raises FileCorruptError: naming the first thing that is damaged.
        """
        return self.opened.verify()

    def backup(self, folder: str | Path) -> None:
        """Write a copy of the collection as it is now into a new folder; it can be read and written meanwhile.

        :raises InputError: if ``folder`` exists and is not empty.
        :raises SaveError: if it cannot be written.
        """
        self.opened.backup(Path(folder))
