"""The snapshots of a collection, each made from the one before at the cost of what was written since."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError
from index.memory.growing import grown, with_spare
from index.memory.snapshot import Snapshot
from index.memory.vectors import HeldRoom, ReadRows, Room, StoredRoom
from index.storage.reader import Reader
from index.storage.schema import About
from index.storage.vector_block import Base, WriteToken

_DEAD_SHARE = 0.25  # of rows that went, above which the others are moved together


class _Kept(NamedTuple):
    """Buffers that snapshots are views of."""

    rows: NDArray[np.int64]
    room: Room


class Snapshots:
    """Makes snapshots. Not safe for threads.

    :param name: of the collection, in errors.
    :param base: gives what was kept beside the database, if it is of a state that the reader's came from.
    :param kept: number of the write that what is kept beside the database is of, if there is anything.
    :param read: reads vectors outside of any transaction of a search.
    """

    def __init__(
        self,
        about: About,
        name: str,
        base: Callable[[Reader], Base | None],
        kept: Callable[[], int | None],
        read: ReadRows,
    ) -> None:
        self._about, self._name, self._base, self._on_disk, self._read = about, name, base, kept, read
        self._generation, self._based_on = 0, -1
        self._kept = self._empty()
        rows = self._kept.rows[:0]
        self.current = Snapshot(WriteToken(-1, ""), rows, self._kept.room.view(rows), np.empty(0, dtype=bool))

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
        kept = self._kept
        try:
            current = self._add(before, reader, write_token) if known else self._load(reader, write_token)
            # Counted independently of the change log, so that a log that lies is noticed before it is searched.
            counts = [reader.count(), *([] if known else [reader.counted()])]
            if any(count != len(current) for count in counts):
                raise FileCorruptError(
                    f"{self._name} holds {reader.counted()} documents and {len(current)} vectors. Restore a backup."
                )
        except BaseException:
            self._kept = kept  # of the current state, which stays
            raise
        self.current = current
        return current

    def _empty(self, count: int = 0) -> _Kept:
        room: Room
        if self._about.held:
            room = HeldRoom(np.empty((0, self._about.dim), dtype=self._about.dtype))
        else:
            room = StoredRoom(self._about.dim, self._read)
        return _Kept(np.empty(with_spare(count), dtype=np.int64), room)

    def _load(self, reader: Reader, write_token: WriteToken) -> Snapshot:
        base = self._base(reader)
        if base is not None:
            with suppress(FileCorruptError):  # what is wrong with a copy need not be wrong with the database
                return self._on(base, reader, write_token)
        self._generation += 1
        kept, n = self._empty(reader.count()), 0
        for block in reader.vectors():
            kept, n = self._appended(kept, n, block.rows, block.vectors)
        return self._view(kept, write_token, n, np.ones(n, dtype=bool), 0)

    def _on(self, base: Base, reader: Reader, write_token: WriteToken) -> Snapshot:
        """What was kept beside the database, and what was written since."""
        self._generation += 1
        self._based_on = base.write_token.sequence
        room = StoredRoom(self._about.dim, self._read, len(base.rows))
        kept = _Kept(base.rows, room if base.vectors is None else HeldRoom(base.vectors))
        dead = int(len(base.alive) - base.alive.sum())
        return self._changed(self._view(kept, base.write_token, len(base.rows), base.alive, dead), reader, write_token)

    def _add(self, before: Snapshot, reader: Reader, write_token: WriteToken) -> Snapshot:
        """The next state; rows are moved together where many have gone.

        Dead rows cost every exact search. What was moved is told by the generation to whatever was derived from
        positions. What is mapped stays, until a later state of it is on disk: it would have to be copied.
        """
        if before.dead > _DEAD_SHARE * len(before.rows):
            if not self._kept.room.mapped:
                return self._changed(self._moved(before), reader, write_token)
            if (self._on_disk() or -1) > self._based_on:
                return self._load(reader, write_token)
        return self._changed(before, reader, write_token)

    def _moved(self, before: Snapshot) -> Snapshot:
        """The same state without the rows that went."""
        self._generation += 1
        alive = np.flatnonzero(before.alive)
        rows = np.empty(with_spare(len(alive)), dtype=np.int64)
        rows[: len(alive)] = before.rows[alive]
        kept = _Kept(rows, self._kept.room.kept(before.vectors, alive))
        return self._view(kept, before.write_token, len(alive), np.ones(len(alive), dtype=bool), 0)

    def _changed(self, before: Snapshot, reader: Reader, write_token: WriteToken) -> Snapshot:
        change = reader.changes_since(before.sequence)
        # Snapshots that searches still hold are views into the same arrays, so merging never changes what they see:
        # deleted rows are only masked, in a copy of the mask, and new rows are written behind all views.
        gone = np.searchsorted(before.rows, change.gone)
        if not np.array_equal(before.rows[gone[gone < len(before.rows)]], change.gone):
            raise FileCorruptError(f"{self._name}: its log names rows that never were. Restore a backup.")
        alive = before.alive.copy()
        alive[gone] = False
        kept, n, dead = self._kept, len(before.rows), int(len(alive) - alive.sum())
        for block in reader.vectors(change.added):
            kept, n = self._appended(kept, n, block.rows, block.vectors)
        alive = np.concatenate([alive, np.ones(n - len(alive), dtype=bool)])
        return self._view(kept, write_token, n, alive, dead)

    def _appended(
        self, kept: _Kept, n: int, rows: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> tuple[_Kept, int]:
        """Put rows behind the first ``n``; the buffers, and how many there are then."""
        end = n + len(rows)
        buffer = grown(kept.rows, n, end)
        buffer[n:end] = rows
        kept.room.put(n, vectors)
        return _Kept(buffer, kept.room), end

    def _view(self, kept: _Kept, write_token: WriteToken, n: int, alive: NDArray[np.bool_], dead: int) -> Snapshot:
        self._kept = kept
        rows = kept.rows[:n]
        return Snapshot(write_token, rows, kept.room.view(rows), alive, dead, self._generation)
