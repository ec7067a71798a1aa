"""The index of words of a large collection: postings on disk, those of later rows in memory, and who makes them.

Below 20,000 documents FTS5 ranks every text that has a term, and so it does until there are postings. They are made in
the background, from FTS5's own, and again when a twentieth of the rows is new. What was written since is cut into terms
when a search first sees it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import EncoderToolsError, SaveError
from index.lexical.bm25 import Query, Statistics
from index.lexical.postings import Postings, TermList, postings_of_table, postings_of_texts
from index.lexical.words_file import read_postings, save_postings
from index.memory.snapshot import Snapshot
from index.storage.fts import BUDGET, Found, query_terms
from index.storage.reader import Reader
from index.storage.vector_block import WriteToken
from index.text.words import Term

_log = logging.getLogger(__name__)
WORDS_FROM = BUDGET  # documents: as many FTS5 ranks without leaving any out
_NEW_LEAST, _NEW_SHARE, _DEAD_SHARE = 2000, 0.05, 0.2  # of the postings' rows, above which they are made anew
_MOST_NEW = 25_000  # rows that a search cuts into terms itself
_FEW = 20_000  # rows that a filter lets through, which are all scored


class _Stopped(Exception):  # noqa: N818  # no error: the collection is closed
    """Nothing is to be made any more."""


class _Recent(NamedTuple):
    """Rows that were written later, and the terms of their texts, of which their postings are put together anew."""

    postings: Postings
    rows: list[int]
    texts: list[list[str]]


class _State(NamedTuple):
    """What is searched.

    :ivar base: postings, and ``write`` after which they were made.
    :ivar recent: postings of later rows, older ones first.
    """

    base: Postings
    write: WriteToken
    recent: tuple[_Recent, ...] = ()

    @property
    def last(self) -> int:
        """The last row that it has."""
        return int(max((part.rows[-1] for part in self.parts), default=-1))

    @property
    def parts(self) -> list[Postings]:
        """All that has rows."""
        return [part for part in (self.base, *(one.postings for one in self.recent)) if len(part)]

    def extended(self, rows: list[int], texts: list[list[str]]) -> _State:
        """With later rows; what is not much larger than they are is put together with them, so that parts stay few."""
        recent = list(self.recent)
        while recent and len(recent[-1].rows) <= 2 * len(rows):
            _, before, terms = recent.pop()
            rows, texts = before + rows, terms + texts
        return self._replace(recent=(*recent, _Recent(postings_of_texts(rows, texts), rows, texts)))


class WordIndex:
    """Holds the postings of a collection. Safe for threads.

    :param folder: of the collection.
    :param reading: gives a reader of the last committed state.
    """

    def __init__(self, folder: Path, reading: Callable[[], AbstractContextManager[Reader]]) -> None:
        self._folder, self._reading = folder, reading
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._state: _State | None = None
        self._looked_at: Snapshot | None = None
        self._checked: tuple[Snapshot, _State] | None = None  # a state that has all rows of a snapshot

    def find(
        self, reader: Reader, snapshot: Snapshot, text: str, k: int, mask: NDArray[np.bool_] | None
    ) -> Found | None:
        """The ``k`` best rows of a snapshot; None where FTS5 is to rank them.

        :param mask: bool (n,) over the snapshot's rows: only those are candidates.
        """
        self.look_after(snapshot)
        state = self._current(reader, snapshot)
        if state is None:
            return None
        queries = _queries(state.parts, query_terms(reader.words, text))
        few = None if mask is None or mask.sum() > _FEW else snapshot.rows[mask]

        def keep(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
            return snapshot.located(rows, mask)[1]

        results = [query.top(k, keep) if few is None else query.among(few, k) for query in queries]
        rows = np.concatenate([np.empty(0, dtype=np.int64), *(rows for rows, _ in results)])
        scores = np.concatenate([np.empty(0), *(scores for _, scores in results)])
        order = np.lexsort((rows, -scores))[:k]
        return rows[order], scores[order]

    def look_after(self, snapshot: Snapshot) -> threading.Thread | None:
        """Begin to read the postings from disk, or to make them, where it is due.

        :return: what is at it, if anything is.
        """
        snapshot = snapshot.outside
        if len(snapshot) < WORDS_FROM:
            self._state = None
            return None
        with self._lock:
            if self._thread is None and snapshot is not self._looked_at and not self._stop.is_set():
                if self._due(snapshot):
                    self._thread = threading.Thread(
                        target=self._work, args=(snapshot,), daemon=True, name="index-words"
                    )
                    self._thread.start()
                else:
                    self._looked_at = snapshot
            return self._thread

    def wait_until_made(self, snapshot: Snapshot) -> None:
        """As :meth:`look_after`, but wait for what there should be."""
        for _ in range(2):
            thread = self.look_after(snapshot)
            if thread is not None:
                thread.join()

    def close(self) -> None:
        """Stop making what is being made; what is there stays on disk."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _due(self, snapshot: Snapshot) -> bool:
        state = self._state
        if state is None:
            return True
        known = snapshot.count_up_to(int(state.base.rows[-1])) if len(state.base) else 0
        new = int(snapshot.alive[known:].sum())
        dead = len(state.base) - int(snapshot.alive[:known].sum())
        return new > max(_NEW_LEAST, _NEW_SHARE * len(state.base)) or dead > _DEAD_SHARE * len(state.base)

    def _work(self, snapshot: Snapshot) -> None:
        try:
            self._make()
        except _Stopped:
            pass
        except EncoderToolsError as error:  # of the database: a search says what is wrong with it
            _log.error("%s: the index of words was not made: %s", self._folder, error)
            self._looked_at = snapshot  # it is tried again after the next write, not with every search
        finally:
            self._thread = None

    def _make(self) -> None:
        if self._state is None:
            with self._reading() as reader:
                kept = read_postings(self._folder, reader)
            if kept is not None:
                self._state = _State(*kept)
                return  # whether it should be made anew, the next search decides
        with self._reading() as reader:
            postings = postings_of_table(reader.rows(), reader.occurrences(), self._check)
            rules, write = reader.words.rules, reader.write_token()
        self._state = _State(postings, write)
        try:
            save_postings(self._folder, postings, rules, write)
            with self._reading() as reader:
                kept = read_postings(self._folder, reader)
        except SaveError as error:  # it serves all the same, until the collection is closed
            _log.warning("%s: the index of words could not be saved: %s", self._folder, error)
        else:
            if kept is not None:
                self._state = _State(*kept)

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _current(self, reader: Reader, snapshot: Snapshot) -> _State | None:
        """What there is, with the rows of a snapshot that were written since."""
        state, checked = self._state, self._checked
        if state is None or state.write.sequence > snapshot.sequence:
            return None
        if checked is not None and checked[0] is snapshot.outside and checked[1] is state:
            return state
        if reader.token_of(state.write.sequence) != state.write.token:
            self._state = None  # of a database that was restored to an earlier state
            return None
        known = snapshot.count_up_to(state.last)
        rows = snapshot.rows[known:][snapshot.alive[known:]]
        if not len(rows):
            self._checked = snapshot.outside, state
            return state
        if len(rows) + sum(len(one.rows) for one in state.recent) > _MOST_NEW:
            return None
        documents = reader.by_rows(rows.tolist())
        texts = [reader.words.stored(documents[row].text) for row in rows.tolist()]
        later = state.extended(rows.tolist(), texts)
        with self._lock:
            if self._state is state:
                self._state = later
        return later


def _queries(parts: list[Postings], terms: list[Term]) -> Iterator[Query]:
    """The same query over each part, with weights that hold for all."""
    statistics = Statistics(sum(map(len, parts)), sum(part.total for part in parts))
    lists: list[list[TermList | None]] = [[part.of(term) for term in terms] for part in parts]
    having = [sum(len(one.documents) for one in of_term if one is not None) for of_term in zip(*lists, strict=True)]
    weights = [statistics.weight(count) for count in having]
    for part, of_part in zip(parts, lists, strict=True):
        known = [(term, one, weight) for term, one, weight in zip(terms, of_part, weights, strict=True) if one]
        yield Query(part, [entry for entry in known if len(entry[1].documents)], statistics.average)
