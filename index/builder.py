"""When a collection searches through a graph, and the thread that builds it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from encoder_tools.errors import SaveError
from encoder_tools.protocols import FloatMatrix
from index import files
from index.approximate import Approximate, Stopped
from index.blocks import Base, Block, Mark
from index.files import Manifest
from index.kinds import kinds
from index.reader import Reader
from index.schema import About
from index.snapshot import Found, Snapshot

Kind: TypeAlias = Literal["auto", "flat", "hnsw", "ivf"]
KINDS = ("auto", "flat", "hnsw", "ivf")

GRAPH_FROM = 20_000  # documents; up to here looking at all of them is as fast
_NEW_SHARE, _NEW_LEAST, _DEAD_SHARE = 0.2, 2000, 0.3  # of the graph's rows, above which it is built anew


class Builder:
    """Holds the graph of a collection, and has it built where there should be one. Safe for threads.

    :param kind: "auto" builds a graph from 20,000 documents on; "flat" never does, a kind's name always.
    :param recall: that it is tuned to.
    :ivar why: why there is a graph, or none.
    """

    def __init__(self, folder: Path, about: About, kind: Kind, recall: float) -> None:
        self._folder, self._about, self._kind, self._recall = folder, about, kind, recall
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._looked_at: Snapshot | None = None  # for which nothing is due
        self._built = kinds()["hnsw" if kind in ("auto", "flat") else kind]
        self.graph: Approximate | None = None
        self.why = f"index is {kind!r}"
        self._loaded = threading.Event()  # what there was on disk, or found to be of no use
        self._read: tuple[Manifest, Block] | None = None
        self._unread = "no vectors were read from disk"

    def base(self, reader: Reader, room: Callable[[int], Block]) -> Base | None:
        """Read the vectors that are on disk, if they are of a state that the reader's came from.

        :param room: gives the place for so many.
        """
        found, why = files.read_manifest(self._folder, self._about.fingerprint, self._about.dim)
        if found is not None and reader.token_of(found.sequence) != found.token:
            found, why = None, "what is on disk is of other vectors"
        if found is not None:
            block = room(found.rows)
            why = files.read_vectors(self._folder, found, block)
            if not why:
                self._read = None if self._loaded.is_set() else (found, block)
                return Base(Mark(found.sequence, found.token), block)
        self._unread = why
        return None

    def kept(self) -> int | None:
        """Number of the write that the files on disk are of, if there are any."""
        found, _ = files.read_manifest(self._folder, self._about.fingerprint, self._about.dim)
        return None if found is None else found.sequence

    def nearest(self, queries: FloatMatrix, k: int, snapshot: Snapshot) -> list[Found]:
        """The nearest of a snapshot, through the graph where there is one."""
        self.look_after(snapshot)
        graph = self.graph
        if graph is None or 2 * k >= len(graph):
            return snapshot.nearest(queries, k)
        return graph.nearest(queries, k, snapshot)

    def look_after(self, snapshot: Snapshot) -> threading.Thread | None:
        """Begin to load the graph from disk, once, and to build one if it is due; until then, searches are exact.

        :return: what is at it, if anything is.
        """
        few = self._kind == "auto" and len(snapshot) < GRAPH_FROM
        if self._kind == "flat" or few or not len(snapshot):
            self.why = f"index is {self._kind!r}, and {len(snapshot)} documents are searched exactly"
            self.graph = None
            return None
        with self._lock:
            if snapshot is self._looked_at and self._thread is None:
                return None
            due = not self._loaded.is_set() or self._is_due(snapshot)
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
            thread = self.look_after(snapshot)
            if thread is not None:
                thread.join()

    def close(self) -> None:
        """Stop building; what is there stays on disk."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self, snapshot: Snapshot) -> None:
        try:
            if not self._loaded.is_set():
                self._load()
            if self._is_due(snapshot):
                self._build(snapshot)
        finally:
            self._loaded.set()
            self._thread = None

    def _load(self) -> None:
        read, self._read = self._read, None  # the graph copies the vectors
        self.graph, self.why = (
            (None, self._unread) if read is None else files.read_graph(self._folder, *read, self._built)
        )
        self._loaded.set()

    def _is_due(self, snapshot: Snapshot) -> bool:
        graph = self.graph
        if graph is None:
            return True
        known = int(np.searchsorted(snapshot.rows, graph.last_row, side="right"))
        new, dead = len(snapshot.rows) - known, len(graph) - int(snapshot.alive[:known].sum())
        return new > max(_NEW_LEAST, _NEW_SHARE * len(graph)) or dead > _DEAD_SHARE * len(graph)

    def _build(self, snapshot: Snapshot) -> None:
        try:
            graph = Approximate.build(self._built, snapshot, self._recall, self._stop)
            self.graph, self.why = graph, f"it was built over {len(graph)} documents"
            places = np.searchsorted(snapshot.rows, graph.rows)
            files.save(self._folder, graph, snapshot.vectors[places], snapshot.mark, self._about.fingerprint)
        except Stopped:
            pass
        except SaveError as error:  # it serves all the same, until the collection is closed
            self.why += f", and could not be saved ({error})"
