"""Where the vectors of a snapshot's rows are: in memory, in a mapped file, or in the database alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.memory.growing import grown, with_spare
from index.storage.reader import Reader
from index.storage.vector_block import Block

_KEPT = 8192  # of the last rows, whose vectors are kept in memory where the others are not

ReadRows = Callable[[Sequence[int]], Iterator[Block]]
"""Vectors of ascending rows; those that are gone may be left out."""


class Vectors(Protocol):
    """Unit vectors by position. None of them ever changes.

    :ivar held: whether they are in memory or mapped: then looking at one costs nothing to speak of.
    """

    @property
    def held(self) -> bool: ...  # noqa: D102 - see above

    def take(self, positions: NDArray[np.int64]) -> FloatMatrix:
        """Float32 (n, dim) at ascending positions; zeros where a row is gone by now."""

    def part(self, start: int, stop: int) -> FloatMatrix:
        """Float32 (n, dim) at positions that follow each other."""

    def first(self, count: int) -> Vectors:
        """Those of the first rows."""

    def within(self, reader: Reader) -> Vectors:
        """The same, read in the transaction of a reader of the same state."""


@dataclass(frozen=True)
class HeldVectors:
    """In memory, or mapped, behind each other.

    :ivar base: mapped, float32 or float16 (m, dim), or none.
    :ivar tail: later ones.
    """

    base: NDArray[Any]
    tail: NDArray[Any]
    held: bool = True

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> HeldVectors:
        """All in one array (n, dim)."""
        return cls(vectors[:0], vectors)

    def take(self, positions: NDArray[np.int64]) -> FloatMatrix:
        """As in the protocol."""
        known = len(self.base)
        cut = int(np.searchsorted(positions, known)) if known else 0
        if cut == len(positions):
            return self.base.take(positions, axis=0).astype(np.float32, copy=False)
        later = self.tail.take(positions[cut:] - known, axis=0).astype(np.float32, copy=False)
        return np.concatenate([self.base.take(positions[:cut], axis=0), later], dtype=np.float32) if cut else later

    def part(self, start: int, stop: int) -> FloatMatrix:
        """As in the protocol; without a copy where float32 vectors lie together."""
        known = len(self.base)
        parts = [self.base[start:stop], self.tail[max(0, start - known) : max(0, stop - known)]]
        there = [part for part in parts if len(part)] or parts[:1]
        return np.concatenate(there, dtype=np.float32) if len(there) > 1 else there[0].astype(np.float32, copy=False)

    def first(self, count: int) -> HeldVectors:
        """As in the protocol."""
        return HeldVectors(self.base[:count], self.tail[: max(0, count - len(self.base))])

    def within(self, reader: Reader) -> HeldVectors:
        """They are of no transaction."""
        return self


@dataclass(frozen=True)
class StoredVectors:
    """In the database, but for the last ones.

    :ivar rows: int64 (n,), ascending.
    :ivar read: reads some, ``read_some`` those of them that are not gone.
    :ivar recent: float32, of the rows from position ``since`` on.
    """

    rows: NDArray[np.int64]
    dim: int
    read: ReadRows
    read_some: ReadRows
    since: int
    recent: FloatMatrix
    held: bool = False

    def take(self, positions: NDArray[np.int64]) -> FloatMatrix:
        """As in the protocol."""
        return self._taken(positions, self.read)

    def _taken(self, positions: NDArray[np.int64], read: ReadRows) -> FloatMatrix:
        cut = int(np.searchsorted(positions, self.since))
        vectors = np.zeros((len(positions), self.dim), dtype=np.float32)
        vectors[cut:] = self.recent[positions[cut:] - self.since]
        rows = self.rows[positions[:cut]]
        at = 0
        for block in read(rows.tolist()) if cut else ():
            if len(block.rows) == cut:
                vectors[:cut] = block.vectors
            else:
                vectors[at + np.searchsorted(rows[at:], block.rows)] = block.vectors
        return vectors

    def part(self, start: int, stop: int) -> FloatMatrix:
        """As in the protocol."""
        return self._taken(np.arange(start, min(stop, len(self.rows))), self.read_some)

    def first(self, count: int) -> StoredVectors:
        """As in the protocol."""
        return replace(self, rows=self.rows[:count], recent=self.recent[: max(0, count - self.since)])

    def within(self, reader: Reader) -> StoredVectors:
        """As in the protocol."""
        return replace(self, read=reader.vectors, read_some=partial(reader.vectors, some=True))


class RememberedVectors:
    """Others, of which those that were looked at before are in memory, up to a number. Not safe for threads.

    :param vectors: that are read where they are, ``dim`` their width.
    """

    held = False

    def __init__(self, vectors: Vectors, dim: int, most: int = 100_000) -> None:
        self._vectors, self._most = vectors, most
        self._at: dict[int, int] = {}
        self._known = np.empty((0, dim), dtype=np.float16)

    def take(self, positions: NDArray[np.int64]) -> FloatMatrix:
        """As in the protocol."""
        wanted = positions.tolist()
        new = [position for position in wanted if position not in self._at]
        read = self._vectors.take(np.array(new, dtype=np.int64))
        start = len(self._at)
        if start + len(new) <= self._most:
            self._known = grown(self._known, start, start + len(new))
            self._known[start : start + len(new)] = read
            self._at |= {position: start + number for number, position in enumerate(new)}
            return self._known[[self._at[position] for position in wanted]].astype(np.float32)
        return self._vectors.take(positions)

    def part(self, start: int, stop: int) -> FloatMatrix:
        """As in the protocol."""
        return self._vectors.part(start, stop)

    def first(self, count: int) -> Vectors:
        """As in the protocol."""
        return self._vectors.first(count)

    def within(self, reader: Reader) -> Vectors:
        """As in the protocol."""
        return self._vectors.within(reader)


class HeldRoom:
    """Makes the vectors of one snapshot after the other, in memory behind what is mapped.

    :param base: mapped (m, dim), or none.
    """

    def __init__(self, base: NDArray[Any]) -> None:
        self._base, self._tail = base, np.empty((0, base.shape[1]), dtype=base.dtype)

    @property
    def mapped(self) -> int:
        """How many are mapped."""
        return len(self._base)

    def put(self, start: int, vectors: FloatMatrix) -> None:
        """Write rows behind the first ``start``."""
        begin = start - len(self._base)
        end = begin + len(vectors)
        self._tail = grown(self._tail, begin, end)
        self._tail[begin:end] = vectors

    def view(self, rows: NDArray[np.int64]) -> HeldVectors:
        """Those of rows."""
        return HeldVectors(self._base, self._tail[: len(rows) - len(self._base)])

    def kept(self, vectors: Vectors, positions: NDArray[np.int64]) -> HeldRoom:
        """A new one with some, in memory."""
        room = HeldRoom(self._base[:0])
        room._tail = np.empty((with_spare(len(positions)), self._base.shape[1]), dtype=self._base.dtype)
        room._tail[: len(positions)] = vectors.take(positions)
        return room


class StoredRoom:
    """Makes the vectors of one snapshot after the other where they stay in the database."""

    def __init__(self, dim: int, read: ReadRows, since: int = 0) -> None:
        self._dim, self._read, self._since = dim, read, since
        self._recent = np.empty((2 * _KEPT, dim), dtype=np.float32)

    @property
    def mapped(self) -> int:
        """None are."""
        return 0

    def put(self, start: int, vectors: FloatMatrix) -> None:
        """Keep the last rows."""
        if start < self._since:  # an earlier write had got further, and failed
            self._since, self._recent = start, np.empty_like(self._recent)
        begin, end = start - self._since, start - self._since + len(vectors)
        if end > len(self._recent):  # snapshots look at the old buffer still
            skipped = max(0, end - _KEPT)
            made = np.empty_like(self._recent)
            held = self._recent[skipped:begin]
            made[: len(held)] = held
            self._recent, self._since = made, self._since + skipped
            vectors = vectors[max(0, skipped - begin) :]
            begin = max(0, begin - skipped)
        self._recent[begin : begin + len(vectors)] = vectors

    def view(self, rows: NDArray[np.int64]) -> StoredVectors:
        """Those of rows."""
        since = min(self._since, len(rows))
        return StoredVectors(rows, self._dim, self._read, self._read, since, self._recent[: len(rows) - since])

    def kept(self, vectors: Vectors, positions: NDArray[np.int64]) -> StoredRoom:
        """A new one with some: none of them is held."""
        return StoredRoom(self._dim, self._read, len(positions))


Room: TypeAlias = HeldRoom | StoredRoom
