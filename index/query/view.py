"""What a search works on: one committed state of a collection, whichever engine holds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix
from index.query.filters import Filter
from index.query.fusion import Ranking
from index.results import Document, DocumentId, Plan
from index.storage.schema import About
from index.text.words import Words

ByWords: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Rows and BM25 scores, best first."""


class DocumentReader(Protocol):
    """Documents and vectors of one state, by the numbers of their rows."""

    @property
    def about(self) -> About:
        """Width, model and space of the vectors."""

    @property
    def words(self) -> Words:
        """What a word is in this collection."""

    def count(self) -> int:
        """How many documents are stored."""

    def ids(self) -> list[DocumentId]:
        """Of each document, also of those in chunks, in the order of their rows."""

    def rows_of_ids(self, ids: Sequence[DocumentId]) -> dict[DocumentId, int]:
        """Rows of documents and chunks by their ids, of those that are there."""

    def by_rows(self, rows: Sequence[int], *, some: bool = False) -> dict[int, Document]:
        """Documents by their row.

        :param some: rows that are gone are no damage.
        """

    def after(self, row: int, limit: int) -> list[tuple[int, Document]]:
        """The next documents after a row, with their rows."""

    def pieces_of(self, sources: Sequence[DocumentId]) -> dict[DocumentId, dict[int, Document]]:
        """Of documents that are stored in chunks, these by their rows, in their order."""

    def sources_of(self, rows: Sequence[int]) -> dict[int, DocumentId | None]:
        """Of rows that are chunks, the document that each is of."""

    def checksums_after(self, row: int, limit: int) -> list[tuple[int, DocumentId, int, int]]:
        """Of the next documents after a row: row, id, and the checksums of the document and of its vector."""

    def checksums_of(self, ids: Sequence[DocumentId]) -> list[tuple[int, DocumentId, int, int]]:
        """The same of documents and chunks by their ids, of those that are there."""

    def vectors_by_row(self, rows: Iterable[int]) -> dict[int, FloatMatrix]:
        """Vectors (dim,) of some rows, all of which are there."""

    def rows_of_texts(self, ids: Sequence[DocumentId], texts: Sequence[str]) -> dict[str, int]:
        """Rows of documents that are called so and have that text already, by the text."""


class View(Protocol):
    """One committed state.

    :ivar plans: of the dense searches that were made in it.
    """

    @property
    def reader(self) -> DocumentReader: ...  # noqa: D102 - see above
    @property
    def about(self) -> About: ...  # noqa: D102 - see above
    @property
    def plans(self) -> list[Plan]: ...  # noqa: D102 - see above
    @property
    def sequence(self) -> int:
        """A number that every write raises."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Of all documents, ascending."""

    @property
    def count(self) -> int:
        """How many documents there are."""

    def mask(self, condition: Filter) -> Any:
        """What the searches below take for a filter."""

    def matching(self, condition: Filter) -> list[int]:
        """Rows that match a filter, ascending."""

    def nearest(self, queries: FloatMatrix, k: int, mask: Any) -> Sequence[Ranking]:
        """Rows and cosines of the ``k`` nearest to each query (n, dim), best first."""

    def exact(self, queries: FloatMatrix, k: int, mask: Any) -> Sequence[Ranking]:
        """As :meth:`nearest`, compared with all."""

    def lexical(self, text: str, k: int, mask: Any) -> ByWords:
        """Rows and BM25 scores of the ``k`` that match a text's words best."""

    def hybrid(
        self, queries: FloatMatrix, texts: Sequence[str], k: int, words: int, mask: Any
    ) -> Sequence[tuple[Ranking, ByWords]]:
        """For each query what :meth:`nearest` and, for ``words``, :meth:`lexical` give."""

    def vectors_of(self, rows: Sequence[int]) -> FloatMatrix:
        """Vectors (n, dim) of rows in any order."""

    def remember(self, queries: FloatMatrix) -> None:
        """Take note of queries (n, dim) that are searched for, where searches are tuned with them."""
