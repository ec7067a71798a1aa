"""A snapshot: all vectors of a collection after one write, in memory, searched exactly.

A snapshot never changes: searches use it while the next one is made. The next one shares its memory: rows are only ever
added at the end (their numbers grow), in a buffer that is larger than what is used of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError
from encoder_tools.protocols import FloatMatrix
from index.storage.reader import Reader
from index.storage.vector_block import Base, Block, WriteToken

_QUERIES_AT_ONCE, _COSINES_AT_ONCE = 64, 2**22
_GATHERED = 0.2  # share of the rows up to which their vectors are copied together
_SPARE = 1.5  # room of a new buffer, in what it holds
_DEAD_SHARE = 0.25  # of rows that went, above which the buffer is made anew


T = TypeVar("T", bound=np.generic)
Neighbors: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Row numbers and cosines, best first."""


@dataclass(frozen=True)
class Snapshot:
    """State after a write.

    :ivar write_token: of the write.
    :ivar rows: int64 (n,), ascending.
    :ivar vectors: unit vectors, float32 (n, dim).
    :ivar alive: bool (n,): not gone since.
    :ivar dead: how many are not.
    :ivar generation: places of rows are those of earlier snapshots of the same generation.
    """

    write_token: WriteToken
    rows: NDArray[np.int64]
    vectors: FloatMatrix
    alive: NDArray[np.bool_]
    dead: int = 0
    generation: int = 0

    @property
    def sequence(self) -> int:
        """Number of the write."""
        return self.write_token.sequence

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self.rows) - self.dead

    def up_to(self, row: int) -> Snapshot:
        """The part of it with rows up to one."""
        n = int(np.searchsorted(self.rows, row, side="right"))
        alive = self.alive[:n]
        return replace(self, rows=self.rows[:n], vectors=self.vectors[:n], alive=alive, dead=n - int(alive.sum()))

    def holds(self, rows: NDArray[np.int64], mask: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Which of some rows are there and alive, or are let through by a mask of rows that are."""
        if not len(self.rows):
            return np.zeros(len(rows), dtype=bool)
        positions = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.asarray((self.rows[positions] == rows) & (self.alive if mask is None else mask)[positions])

    def nearest(self, queries: FloatMatrix, k: int, mask: NDArray[np.bool_] | None = None) -> list[Neighbors]:
        """Rows and cosines of the ``k`` nearest to each query (n, dim), best first; of equal ones the older row.

        :param mask: bool (n,), of rows that are alive: none but those are found, and ``k`` of them if there are.
        """
        candidates = np.flatnonzero(self.alive if mask is None else mask)
        if len(candidates) == len(self.rows):
            vectors, rows = self.vectors, self.rows
        elif len(candidates) <= _GATHERED * len(self.rows):
            vectors, rows = self.vectors[candidates], self.rows[candidates]
        else:
            return self._nearest_of_most(queries, k, candidates)
        rankings = []
        step = _step(len(rows))
        for start in range(0, len(queries), step):
            for cosines in queries[start : start + step] @ vectors.T:
                chosen = best_of(cosines, min(k, len(rows)))
                rankings.append((rows[chosen], cosines[chosen]))
        return rankings

    def _nearest_of_most(self, queries: FloatMatrix, k: int, candidates: NDArray[np.int64]) -> list[Neighbors]:
        """The same where copying the vectors that count would cost more than looking at all of them."""
        rankings = []
        step = _step(len(self.rows))
        for start in range(0, len(queries), step):
            for line in queries[start : start + step] @ self.vectors.T:
                cosines = line[candidates]
                chosen = best_of(cosines, min(k, len(candidates)))
                rankings.append((self.rows[candidates[chosen]], cosines[chosen]))
        return rankings


def _step(count: int) -> int:
    """How many queries are compared with ``count`` vectors at a time."""
    return max(1, min(_QUERIES_AT_ONCE, _COSINES_AT_ONCE // max(1, count)))


def best_of(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Places of the ``k`` highest scores, highest first; of equal ones the earlier place, also at the cut."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")[:k]
    lowest = np.partition(scores, len(scores) - k)[len(scores) - k]
    above, level = np.flatnonzero(scores > lowest), np.flatnonzero(scores == lowest)
    positions = np.concatenate([above, level[: k - len(above)]])
    positions.sort()
    return positions[np.argsort(-scores[positions], kind="stable")]


def grown(array: NDArray[T], known: int, count: int) -> NDArray[T]:
    """The same array if it holds ``count`` rows; else a new one with room to spare and the first ``known`` in it.

    What looks at the old one keeps it as it was.
    """
    if count <= len(array):
        return array
    made = np.empty((_with_spare(count), *array.shape[1:]), dtype=array.dtype)
    made[:known] = array[:known]
    return made


def _with_spare(count: int) -> int:
    return int(_SPARE * count) + 64


class Snapshots:
    """Makes snapshots, each from the one before. Not safe for threads.

    :param name: of the collection, in errors.
    :param base: reads vectors that were kept beside the database into the room that it is given, if there are any.
    """

    def __init__(self, dim: int, name: str, base: Callable[[Reader, Callable[[int], Block]], Base | None]) -> None:
        self._dim, self._name, self._base, self._generation = dim, name, base, 0
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._vectors: FloatMatrix = np.empty((0, dim), dtype=np.float32)
        self.current = Snapshot(WriteToken(-1, ""), self._rows, self._vectors, np.empty(0, dtype=bool))

    def advance(self, reader: Reader) -> Snapshot:
        """The state that a reader sees, if it is later than the current one.

        :raises FileCorruptError: if the tables contradict each other, or a vector is damaged.
        """
        before = self.current
        if reader.sequence() <= before.sequence:
            return before
        write_token = reader.write_token()
        # The change log leads from one state to the next only if both lie on one line of writes: a restored backup may
        # have the same sequence number with another token, and a trimmed log no longer reaches back. Both load anew.
        known = reader.token_of(before.sequence) == before.write_token.token
        if not known:
            self._generation += 1
        current = self._add(before, reader, write_token) if known else self._load(reader, write_token)
        # Counted independently of the change log, so that a log that lies is noticed before it is searched.
        counts = [reader.count(), *([] if known else [reader.counted()])]
        if any(count != len(current) for count in counts):
            raise FileCorruptError(
                f"{self._name} holds {reader.counted()} documents and {len(current)} vectors. Restore a backup."
            )
        self.current = current
        return current

    def _load(self, reader: Reader, write_token: WriteToken) -> Snapshot:
        base = self._base(reader, self._make_room)
        if base is not None:
            rows, vectors = base.block
            with suppress(FileCorruptError):  # what is wrong with a copy need not be wrong with the database
                whole = Snapshot(base.write_token, rows, vectors, np.ones(len(rows), dtype=bool), 0, self._generation)
                return self._add(whole, reader, write_token)
        self._make_room(reader.count())
        n = 0
        for block in reader.vectors():
            n = self._append(n, block.rows, block.vectors)
        return self._view(write_token, n, np.ones(n, dtype=bool), 0)

    def _add(self, before: Snapshot, reader: Reader, write_token: WriteToken) -> Snapshot:
        change = reader.changes_since(before.sequence)
        if before.rows.base is not self._rows:  # an earlier step failed after it had made room
            self._make_room(len(before.rows))
            self._append(0, before.rows, before.vectors)
        # Snapshots that searches still hold are views into the same arrays, so merging never changes what they see:
        # deleted rows are only masked, in a copy of the mask, and new rows are written behind all views.
        gone = np.searchsorted(before.rows, change.gone)
        if not np.array_equal(before.rows[gone[gone < len(before.rows)]], change.gone):
            raise FileCorruptError(f"{self._name}: its log names rows that never were. Restore a backup.")
        alive = before.alive.copy()
        alive[gone] = False
        n, dead = len(before.rows), int(len(alive) - alive.sum())
        # Masked rows cost every exact search. Past a share of them the arrays are written anew; row positions change,
        # which the generation tells to whatever was derived from positions.
        if dead > _DEAD_SHARE * (n + len(change.added)):
            kept = before.rows[alive], before.vectors[alive]
            self._make_room(len(kept[0]) + len(change.added))
            n, alive, dead = self._append(0, *kept), alive[alive], 0
            self._generation += 1
        for block in reader.vectors(change.added):
            n = self._append(n, block.rows, block.vectors)
        alive = np.concatenate([alive, np.ones(n - len(alive), dtype=bool)])
        return self._view(write_token, n, alive, dead)

    def _append(self, n: int, rows: NDArray[np.int64], vectors: FloatMatrix) -> int:
        """Put rows behind the first ``n``; return how many there are then."""
        end = n + len(rows)
        self._rows, self._vectors = grown(self._rows, n, end), grown(self._vectors, n, end)
        self._rows[n:end], self._vectors[n:end] = rows, vectors
        return end

    def _make_room(self, n: int) -> Block:
        room = _with_spare(n)
        self._rows, self._vectors = np.empty(room, dtype=np.int64), np.empty((room, self._dim), dtype=np.float32)
        return Block(self._rows[:n], self._vectors[:n])

    def _view(self, write_token: WriteToken, n: int, alive: NDArray[np.bool_], dead: int) -> Snapshot:
        return Snapshot(write_token, self._rows[:n], self._vectors[:n], alive, dead, self._generation)
