"""A generation of lines that is filled in beside the one that is searched: another model's vectors, or an index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError, SaveError
from encoder_tools.protocols import FloatMatrix
from index.engines.milvus.mv_conditions import EVERYTHING, among
from index.engines.milvus.mv_connection import MOST_LINES, MvDatabase
from index.engines.milvus.mv_reader import MvReader
from index.engines.milvus.mv_rows import counted, weights
from index.engines.milvus.mv_state import Coming, State, create_generation, lines_of
from index.engines.milvus.mv_writes import LINE, MvWrite, delete_rows, vector_fields
from index.storage.schema import About

_AT_ONCE = 500


class MvShadow:
    """See :class:`index.collection.engine.ShadowVectors`.

    :param reader: of the state now.
    :param write: in which it is changed; None to read.
    :param graph: whether a generation that is begun has a graph.
    """

    def __init__(self, reader: MvReader, write: MvWrite | None = None, *, graph: bool = False) -> None:
        self._reader, self._given, self._graph = reader, write, graph
        self._database: MvDatabase = reader.database

    @property
    def _write(self) -> MvWrite:
        if self._given is None:
            raise InputError("This is read, not written. Use shadow_writing.")
        return self._given

    @property
    def _state(self) -> State:
        return self._reader.state if self._given is None else self._given.state

    def about(self) -> About:
        """Of the vectors that are searched."""
        return self._state.about

    def coming(self) -> About | None:
        """Of those that are filled in for another model."""
        coming = self._state.coming
        return None if coming is None or coming.about == self._state.about else coming.about

    @property
    def generation(self) -> int | None:
        """Of the lines that are filled in, for whatever model."""
        return None if self._state.coming is None else self._state.coming.generation

    def begin(self, about: About) -> None:
        """Make room for the vectors of a model; those of another one that were begun are discarded."""
        state, database = self._state, self._database
        number = state.generations + 1
        create_generation(database, number, about.dim, graph=self._graph)
        coming = Coming(about, number, self._graph, state.statistics.average)
        self._write.state = state._replace(coming=coming, generations=number)
        if state.coming is not None:
            begun = lines_of(database, state.coming.generation)
            self._write.afterwards.append(lambda: database.call("drop_collection", begun))

    def count(self) -> int:
        """How many documents there are."""
        return self._state.documents

    def done(self) -> int:
        """How many have their new vector."""
        return self._database.count(self._lines, EVERYTHING)

    def missing(self, after: int, limit: int) -> tuple[list[int], list[str]]:
        """The next rows without one, and their texts."""
        lacking: list[tuple[int, str]] = []
        for part in self._reader.pages(EVERYTHING, ("row", "text"), min(limit, _AT_ONCE), after=max(0, after)):
            condition = among("row", [line["row"] for line in part])
            filled = {line["row"] for line in self._database.query(self._lines, condition, ("row",))}
            lacking += [(line["row"], line["text"]) for line in part if line["row"] not in filled]
            if len(lacking) >= limit:
                break
        return [row for row, _ in lacking[:limit]], [text for _, text in lacking[:limit]]

    def fill(self, rows: Sequence[int], vectors: FloatMatrix, about: About) -> None:
        """Store lines with new vectors, but for documents that are gone by now."""
        by_row = dict(zip(rows, vectors, strict=True))
        coming = self._coming
        for start in range(0, len(rows), _AT_ONCE):
            lines = self._reader.query(among("row", rows[start : start + _AT_ONCE]), LINE)
            for line in lines:
                words = self._reader.words.stored(line["text"])
                line["weights"] = weights(counted(words), len(words), coming.average or 1.0)
                line |= vector_fields(by_row[line["row"]], about)
            self._write.write_lines(self._lines, lines)

    def switch(self, about: About) -> None:
        """Put the new lines in the place of the old ones.

        :raises SaveError: if some are lacking.
        """
        coming, old = self._coming, self._reader.lines
        there, filled = self._reader.rows_of(EVERYTHING), self._filled()
        if len(np.setdiff1d(there, filled)):
            raise SaveError(f"{self._database.address} was written to meanwhile. Nothing was switched; run it again.")
        delete_rows(self._database, self._lines, np.setdiff1d(filled, there).tolist())
        self._write.state = self._state._replace(
            about=about,
            generation=coming.generation,
            graph=coming.graph,
            average=coming.average,
            coming=None,
            recall=None,
            effort=None,
            dead=0,
            sequence=self._state.sequence + 1,
        )
        database = self._database
        self._write.afterwards.append(lambda: database.call("drop_collection", old))

    def _filled(self) -> NDArray[np.int64]:
        rows: list[int] = []
        for first in range(0, self._state.rows, MOST_LINES):
            lines = self._database.query(self._lines, f"row >= {first} and row < {first + MOST_LINES}", ("row",))
            rows += [line["row"] for line in lines]
        return np.array(rows, dtype=np.int64)

    @property
    def _coming(self) -> Coming:
        if self._state.coming is None:
            raise SaveError(f"No vectors are filled in for {self._database.address}. Begin anew.")
        return self._state.coming

    @property
    def _lines(self) -> str:
        return lines_of(self._database, self._coming.generation)
