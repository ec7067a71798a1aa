"""A collection: documents that are never lost, found by the meaning of their text."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, SaveError
from encoder_tools.io.staging import staged_folder
from encoder_tools.protocols import TextEncoder
from index.ann.builder import KINDS, Kind
from index.ann.cache import read_manifest
from index.collection.encoding import Model, about_of
from index.collection.searcher import SearchedCollection
from index.collection.writes import WrittenCollection
from index.query.filters import Filter, read_filter
from index.query.projection import Layout, lay_out
from index.results import Document, DocumentId, Stats
from index.storage import fts as lexical
from index.storage import schema
from index.storage.database import DATABASE_NAME, Database
from index.storage.fts_rebuild import bring_up_to_date
from index.storage.integrity import verify
from index.storage.network_disks import warn_of_network_disk
from index.storage.reader import Reader
from index.validation import check_ids, check_score

_SCAN_AT_ONCE = 1000
_log = logging.getLogger(__name__)


class Collection(SearchedCollection, WrittenCollection):
    """A folder with one SQLite database, and its vectors in memory.

    Make one with :meth:`create` or :meth:`open`; use it as a context manager or :meth:`close` it. Threads may share it:
    searches run side by side. Other processes may open the same folder: each call sees one committed state, with
    everything that was written before it began. Writers wait ``busy_timeout`` seconds for each other.
    """

    @classmethod
    def create(
        cls, folder: str | Path, encoder: TextEncoder, *, busy_timeout: float = 5.0, stemming: str | None = None
    ) -> Self:
        """Make an empty collection for ``encoder``'s vectors and open it.

        :param stemming: a language of Snowball ("english", "german", ...): the search by words and ``$text`` then find
            a word by its stem ("cards" by "card"). It holds for the life of the collection. None takes words as they
            are written.
        :raises InputError: if ``folder`` exists and is not empty, or there is no such language.
        :raises MissingExtraError: if stemming is not installed.
        :raises SaveError: if it cannot be written.
        """
        with staged_folder(Path(folder)) as staged:
            schema.create(staged, about_of(encoder), stemming)
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
        remember_queries: bool = True,
    ) -> Self:
        """Open a collection and load its vectors. One of an older version is brought to this one, which is logged.

        :param encoder: the model; None for what needs none: searches by words or by vectors, and all but new texts.
        :param allow_sibling: take an encoder of the same space, if it is not the model that made the vectors: a small
            one that was distilled in the space of a large one then answers queries over the large one's vectors. What
            is stored later must bring its vectors along.
        :param busy_timeout: seconds to wait for another writer.
        :param index: "flat" looks at every vector; "hnsw" at those that a graph leads to, which is built in the
            background; "ivf" at those in some of many lists, built much faster and searched somewhat slower; "auto"
            takes the graph from 20,000 documents on. Filtered searches are exact in any case.
        :param recall: share of the true 1, 10 and 100 nearest that it is tuned to find, for the worst of several groups
            of queries; see :mod:`index.ann.tuning`.
        :param remember_queries: keep a sample of 256 vectors that were searched for, in memory and in the folder, to
            tune with; no texts.
        A folder on a network disk is warned of.

        :raises FileMissingError: if ``folder`` is not there or holds no collection.
        :raises FileCorruptError: if the database is damaged or something else.
        :raises FingerprintError: if the stored vectors are another model's, and it is no sibling or none is allowed.
        :raises InputError: if the encoder gives another width than the stored vectors have.
        """
        folder = Path(folder)
        if index not in KINDS or not 0 < check_score(recall, "recall") <= 1:
            expected = ", ".join(KINDS)
            raise InputError(f"index is {index!r} and recall {recall!r}, expected one of {expected}, and a share.")
        if not folder.is_dir():
            raise FileMissingError(f"{folder} is not a folder. Make the collection with Collection.create.")
        warn_of_network_disk(folder)
        with ExitStack() as on_error:
            database = Database(folder, busy_timeout=busy_timeout)
            on_error.callback(database.close)
            about = schema.read_about(database)
            bring_up_to_date(database)
            model = Model.checked(folder, about, encoder, allow_sibling=allow_sibling)
            collection = cls(folder, database, model, index=index, recall=recall, remember_queries=remember_queries)
            collection.refresh()
            try:
                with collection._reading() as reader:
                    collection._check_manifest(reader)
            except FileCorruptError as error:
                _log.error("%s", error)
            on_error.pop_all()
        return collection

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
        """Build the index that searches should have by now, and give back disk space that deletes have left.

        Searches go on meanwhile, and others wait to write only while the file is made smaller.

        :raises SaveError: if another writer does not finish in time, or the disk is full; all is as it was then.
        """
        with self._at_rest() as rest:
            snapshot, builder = rest.snapshot, rest.builder
        builder.wait_until_built(snapshot)
        if os.access(self._database.path, os.W_OK):
            self._database.shrink()

    def stats(self) -> Stats:
        """What there is, and how it is searched."""
        with self._at_rest() as rest:
            rest.builder.wait_until_loaded(rest.snapshot)
            graph, why = rest.builder.graph, rest.builder.why
            return Stats(
                len(rest.snapshot),
                rest.about.dim,
                "flat" if graph is None else graph.kind.name,
                why,
                None if graph is None else graph.tuning.worst,
                None if graph is None else graph.tuning.effort(10),
                sum(file.stat().st_size for file in self._folder.iterdir() if file.is_file()),
                rest.reader.reembedded(),
                None if graph is None else graph.tuning.recall,
            )

    @property
    def sequence(self) -> int:
        """A number that every write raises."""
        with self._at_rest() as rest:
            return rest.snapshot.sequence

    def layout(self) -> Layout:
        """Where the documents lie in two dimensions, by the principal components of their vectors."""
        with self._at_rest() as rest:
            return lay_out(rest)

    def verify(self) -> int:
        """Read everything, and check it against its checksums and against each other.

        :return: how many documents there are.
        :raises FileCorruptError: naming the first thing that is damaged.
        """
        lost = self._database.lost_writes()
        if lost is not None:
            raise FileCorruptError(lost)
        with self._reading() as reader:
            self._check_manifest(reader)
            count = verify(reader, self._database.path)
        with suppress(SaveError), self._database.writing() as connection:  # in a folder that is read alone, not this
            lexical.check(connection)
        return count

    def _check_manifest(self, reader: Reader) -> None:
        """What was derived from the database cannot be of a later write than the last one that it has."""
        about = reader.about
        manifest, _ = read_manifest(self._folder, about.fingerprint, about.dim)
        if manifest is not None and manifest.sequence > reader.sequence():
            raise FileCorruptError(_behind(self._database.path, manifest.sequence, reader.sequence()))

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

    def ids(self) -> Iterator[DocumentId]:
        """The id of each document, in the order they were first written; a document in pieces once."""
        with self._reading() as reader:
            found = reader.ids()
        yield from found

    def vectors_by_text(self, ids: Sequence[DocumentId]) -> dict[str, Any]:
        """Stored vectors (dim,) of documents and of their pieces, by the text that each is of."""
        found: dict[str, Any] = {}
        with self._reading() as reader:
            for identifier in check_ids(ids):
                row = reader.row_of(identifier)
                documents = reader.pieces_of(identifier) or ({} if row is None else reader.by_rows([row]))
                for block in reader.vectors(sorted(documents)):
                    pairs = zip(block.rows.tolist(), block.vectors, strict=True)
                    found |= {documents[place].text: vector for place, vector in pairs}
        return found

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


def _behind(path: Path, sequence: int, own: int) -> str:
    return (
        f"{path} ends with write {own}, but the index beside it was made after write {sequence}: the database lost "
        "writes, or was put back to an earlier state. Restore a backup; if this state is meant, `compact` says so."
    )
