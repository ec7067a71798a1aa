"""The builder: when a collection is searched through an index, and the thread that builds, extends and tunes it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import EncoderToolsError, SaveError
from encoder_tools.protocols import FloatMatrix
from index.ann import cache as files
from index.ann.ann_index import AnnIndex, Stopped
from index.ann.cache import Manifest
from index.ann.index_types import IndexType, large_kind, recent_kind
from index.ann.query_sample import RecentQueries
from index.ann.segments import Segments
from index.ann.tuning import Tuning
from index.memory.codes import CodedVectors, Codes
from index.memory.snapshot import Neighbors, Snapshot
from index.results import Plan
from index.storage.reader import Reader
from index.storage.schema import About
from index.storage.vector_block import Base

_log = logging.getLogger(__name__)
GRAPH_FROM = 20_000  # documents; up to here looking at all of them is as fast
_NEW_SHARE, _NEW_LEAST, _DEAD_SHARE = 0.2, 2000, 0.3  # of the graph's rows, above which it is built anew
_TAIL, _TAIL_SHARE = 500, 0.05  # later rows, and share of the small index, from which it takes them in
_TAIL_AT_ONCE = 1000  # later rows that do not wait for what is being built
_RECENT_EFFORTS = {1: (96, 192), 10: (96, 192), 100: (256, 384)}  # of the small index, at least and at most
_TUNE_AFTER, _TUNE_SHARE = 60.0, 0.05  # seconds between two measurements with recent queries, or share of the time


class Builder:
    """Holds the indexes of a collection, and has them built where there should be any. Safe for threads.

    :param kind: "auto" builds a graph from 20,000 documents on; "flat" never does, a kind's name always.
    :param recall: that it is tuned to.
    :param pieces: gives the vectors of short pieces of stored texts, if there is a model that encodes them.
    :param remember: whether queries are remembered, to tune with.
    :ivar why: why there is a graph, or none.
    :ivar when_saved: called when the graph on disk is another one.
    """

    def __init__(
        self,
        folder: Path,
        about: About,
        kind: IndexType,
        recall: float,
        pieces: Callable[[], FloatMatrix | None] = lambda: None,
        *,
        remember: bool = True,
    ) -> None:
        self._folder, self._about, self._kind, self._recall, self._pieces = folder, about, kind, recall, pieces
        self._lock, self._extending, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._extender: threading.Thread | None = None
        self._coded = CodedVectors()
        self._looked_at: Snapshot | None = None  # for which nothing is due
        self._built = large_kind(kind, about.storage)
        self.segments: Segments | None = None
        self.why = f"index is {kind!r}"
        self._loaded = threading.Event()  # what there was on disk, or found to be of no use
        self._read: tuple[Manifest, Base] | None = None
        self._manifest: Manifest | None = None  # of what is on disk, if that is what is searched
        self._unread = "no vectors were read from disk"
        self._recent = RecentQueries(about.dim, keep=remember)
        self._tuned_at, self._tuned_for = time.monotonic(), 0.0
        self.when_saved: Callable[[], None] = lambda: None

    @property
    def graph(self) -> AnnIndex | None:
        """The large index, if there is one."""
        segments = self.segments
        return None if segments is None else segments.main

    def remember(self, queries: FloatMatrix) -> None:
        """Take note of queries (n, dim) that are searched for."""
        self._recent.add(queries)

    def base(self, reader: Reader) -> Base | None:
        """Rows and vectors that are on disk, if they are of a state that the reader's came from."""
        manifest, why = files.read_manifest(self._folder, self._about)
        if manifest is not None and reader.token_of(manifest.sequence) != manifest.token:
            manifest, why = None, "what is on disk is of other vectors"
        if manifest is not None:
            base, why = files.read_base(self._folder, manifest, self._about)
            if base is not None:
                self._read = None if self._loaded.is_set() else (manifest, base)
                return base
        self._unread = why
        return None

    @property
    def saved_rows(self) -> NDArray[np.int64] | None:
        """Rows of the graph that is on disk and searched; None if there is none."""
        segments = self.segments
        return None if self._manifest is None or segments is None else segments.main.rows

    @property
    def stopped(self) -> bool:
        """Whether nothing will be built any more."""
        return self._stop.is_set()

    def kept(self) -> int | None:
        """Number of the write that the files on disk are of, if there are any."""
        manifest, _ = files.read_manifest(self._folder, self._about)
        return None if manifest is None else manifest.sequence

    def nearest(self, queries: FloatMatrix, k: int, snapshot: Snapshot) -> tuple[list[Neighbors], Plan]:
        """The nearest of a snapshot, through the graph where there is one, and how they were found."""
        segments = self.segments_for(snapshot)
        if segments is None or 2 * k >= len(segments.main):
            return snapshot.nearest(queries, k), Plan("exact", len(snapshot))
        plan = Plan("graph", len(snapshot), k, segments.main.tuning.effort(k))
        return segments.nearest(queries, k, snapshot, partial(self.codes, snapshot)), plan

    def codes(self, snapshot: Snapshot) -> Codes | None:
        """The codes of a snapshot's vectors, if they are made by now."""
        graph = self.graph
        return self._coded.of(snapshot, None if graph is None else graph.codes)

    def exact(self, k: int, snapshot: Snapshot) -> bool:
        """Whether all vectors would be looked at, for want of a graph; one that is on disk is waited for."""
        self.wait_until_loaded(snapshot)
        segments = self.segments
        return segments is None or 2 * k >= len(segments.main)

    def segments_for(self, snapshot: Snapshot) -> Segments | None:
        """As :meth:`look_after`; the indexes that there are by now."""
        self.look_after(snapshot)
        return self.segments

    def look_after(self, snapshot: Snapshot) -> threading.Thread | None:
        """Begin to load the graph from disk, once, and to build one if it is due; until then, searches are exact.

        :return: what is at it, if anything is.
        """
        snapshot = snapshot.outside
        few = self._kind == "auto" and len(snapshot) < GRAPH_FROM
        if self._kind == "flat" or few or not len(snapshot):
            self.why = f"index is {self._kind!r}, and {len(snapshot)} documents are searched exactly"
            self.segments = None
            return None
        with self._lock:
            if snapshot is self._looked_at and self._thread is None and not self._tuning_due():
                return None
            due = not self._loaded.is_set() or self._due(snapshot) is not None
            self._looked_at = None if due else snapshot
            if self._thread is None and due and not self._stop.is_set():
                self._thread = threading.Thread(target=self._work, args=(snapshot,), daemon=True, name="index-graph")
                self._thread.start()
            return self._thread

    def wait_until_loaded(self, snapshot: Snapshot) -> None:
        """As :meth:`look_after`, but wait for what is on disk; not for a graph that is built."""
        if self.look_after(snapshot) is not None:
            self._loaded.wait()

    def wait_until_built(self, snapshot: Snapshot) -> None:
        """As :meth:`look_after`, but wait for the graph that there should be."""
        for _ in range(2):  # what runs already may have begun before the last write
            for thread in (self.look_after(snapshot), self._extender):
                if thread is not None:
                    thread.join()

    def follow(self, snapshot: Snapshot) -> None:
        """After a write, where searches go through an index already: have new rows taken in, beside the searches.

        Many are taken in by a thread of their own, because the other one may be building for many minutes.
        """
        segments = self.segments
        if segments is None:
            return
        if _tail(segments, snapshot) > _TAIL_AT_ONCE:
            with self._lock:
                if self._extender is None and not self._stop.is_set():
                    work = threading.Thread(target=self._extend_now, args=(snapshot.outside,), daemon=True)
                    self._extender = work
                    work.start()
        self.look_after(snapshot)

    def close(self) -> None:
        """Stop building; what is there stays on disk."""
        self._stop.set()
        for thread in (self._thread, self._extender):
            if thread is not None:
                thread.join()

    def _extend_now(self, snapshot: Snapshot) -> None:
        try:
            with self._reported(snapshot):
                self._extend(snapshot)
        finally:
            self._extender = None

    def _work(self, snapshot: Snapshot) -> None:
        try:
            with self._reported(snapshot):
                if not self._loaded.is_set():
                    self._load()
                while (step := self._due(snapshot)) is not None:
                    step(snapshot)
        finally:
            self._loaded.set()
            self._thread = None

    @contextmanager
    def _reported(self, snapshot: Snapshot) -> Iterator[None]:
        """Searches go on without what was to be made."""
        try:
            yield
        except Stopped:
            pass
        except EncoderToolsError as error:  # of the database
            _log.error("%s: the index was not brought up to date: %s", self._folder, error)
            self.why, self._looked_at = f"no index could be made: {error}", snapshot

    def _load(self) -> None:
        read, self._read = self._read, None
        graph, self.why = None, self._unread
        if read is not None:
            graph, self.why = files.read_graph(self._folder, read[0], read[1].rows, self._built)
        if read is not None and graph is not None:
            self.segments, self._manifest = Segments(graph), read[0]
            self._recent.restore(files.read_queries(self._folder, read[0]))
        self._loaded.set()

    def _due(self, snapshot: Snapshot) -> Callable[[Snapshot], None] | None:
        """What should be done for a snapshot, if anything."""
        segments = self.segments
        if segments is None:
            return self._build
        main = segments.main
        dead = _dead(main, snapshot)
        new = len(snapshot) - (len(main) - dead)
        if new > max(_NEW_LEAST, _NEW_SHARE * len(main)) or dead > _DEAD_SHARE * len(main):
            return self._build
        if _tail(segments, snapshot) > max(_TAIL, _TAIL_SHARE * (segments.size - len(main))):
            return self._extend
        return self._tune if self._tuning_due() else None

    def _tuning_due(self) -> bool:
        if not self._recent.changed:
            return False
        return time.monotonic() - self._tuned_at > max(_TUNE_AFTER, self._tuned_for / _TUNE_SHARE)

    def _build(self, snapshot: Snapshot) -> None:
        if self.segments is not None:
            self._extend(snapshot)  # building takes long, and searches would look at all new rows meanwhile
        graph = self._tuned(self._made(snapshot), snapshot)
        finer = graph.kind.finer()
        affordable = finer is not None and (finer.coded or snapshot.vectors.held)
        if finer is not None and affordable and graph.tuning.worst < self._recall:  # codes may be too coarse
            other = self._tuned(AnnIndex.build(finer, snapshot, self._stop), snapshot)
            graph = max(graph, other, key=lambda one: one.tuning.worst)
        why = f"it was built over {len(snapshot)} documents"
        try:
            manifest = files.save(self._folder, graph, snapshot, self._about, self._recent.sample())
        except SaveError as error:  # it serves all the same, until the collection is closed
            why += f", and could not be saved ({error})"
        else:
            mapped, _ = files.read_graph(self._folder, manifest, graph.rows, graph.kind, checked=True)
            graph, self._manifest = mapped or graph, manifest
        with self._lock:
            self.segments, self.why = Segments(graph), why
        if self._manifest is not None:
            self.when_saved()

    def _made(self, snapshot: Snapshot) -> AnnIndex:
        """The large index, grown by the later rows; made anew where many of its rows have gone."""
        main = self.graph
        if main is None or not main.kind.grows or _dead(main, snapshot) > _DEAD_SHARE * len(main) / 2:
            return AnnIndex.build(self._built, snapshot, self._stop)
        known = snapshot.count_up_to(int(main.rows[-1]))
        try:
            return main.grown(snapshot, np.flatnonzero(snapshot.alive[known:]) + known, self._stop)
        except (OSError, RuntimeError):  # FAISS's: another process has put its own file in the place of ours
            return AnnIndex.build(self._built, snapshot, self._stop)

    def _extend(self, snapshot: Snapshot) -> None:
        """Take later rows into the small index."""
        with self._extending:
            segments = self.segments
            if segments is None:
                return
            known = segments.known(snapshot)
            positions = np.flatnonzero(snapshot.alive[known:]) + known
            if not len(positions):
                return
            if segments.recent is None:
                alive = snapshot.alive.copy()
                alive[:known] = False
                built = AnnIndex.build(recent_kind(segments.main.kind), replace(snapshot, alive=alive), self._stop)
                recent = built.with_tuning(_tuning_beside(segments.main))
            else:
                recent = segments.recent.grown(snapshot, positions, self._stop)
            with self._lock:
                if self.segments is segments:  # else the large index was built anew meanwhile
                    self.segments = Segments(segments.main, recent)

    def _tune(self, snapshot: Snapshot) -> None:
        """Measure again, with the queries of late."""
        segments = self.segments
        if segments is None:
            return
        graph = self._tuned(segments.main, snapshot)
        with self._lock:
            if self.segments is None or self.segments.main is not segments.main:
                return
            self.segments = Segments(graph, self.segments.recent)
        if self._manifest is None:
            return
        try:
            self._manifest = files.save_tuning(self._folder, self._manifest, graph.tuning, self._recent.sample())
        except SaveError as error:
            self.why += f", and its tuning could not be saved ({error})"

    def _tuned(self, graph: AnnIndex, snapshot: Snapshot) -> AnnIndex:
        begun = time.monotonic()
        self._recent.measured()
        queries = {"recent": self._recent.sample()}
        pieces = self._pieces()
        if pieces is not None:
            queries["pieces"] = pieces
        tuned = graph.tuned(snapshot, self._recall, queries)
        self._tuned_at = time.monotonic()
        self._tuned_for = self._tuned_at - begun
        return tuned


def _tuning_beside(main: AnnIndex) -> Tuning:
    """Of the small index: half of what the large one takes, where that is a graph too, up to what so few rows need."""
    of_main = main.tuning.efforts if main.kind.grows else {}
    efforts = {k: min(max(least, of_main.get(k, 0) // 2), most) for k, (least, most) in _RECENT_EFFORTS.items()}
    return Tuning(efforts, {})


def _tail(segments: Segments, snapshot: Snapshot) -> int:
    """How many rows no index has."""
    return int(snapshot.alive[segments.known(snapshot) :].sum())


def _dead(main: AnnIndex, snapshot: Snapshot) -> int:
    """How many rows of an index have gone."""
    known = snapshot.count_up_to(int(main.rows[-1]))
    return len(main) - int(snapshot.alive[:known].sum())
