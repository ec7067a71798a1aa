"""Postings: for each term the texts that have it and how often, in memory or mapped from a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.storage.fts import Occurrences
from index.text.words import Term

MOST = 255
"""Times that a term counts in one text, at most: from there on BM25 grows by less than half a percent."""
_LAST = chr(0x10FFFF).encode()


class TermList(NamedTuple):
    """One term's texts.

    :ivar documents: positions among the rows, uint32, ascending.
    :ivar counts: how often each has the term, uint8.
    """

    documents: NDArray[np.uint32]
    counts: NDArray[np.uint8]


@dataclass(frozen=True)
class Postings:
    """Of some rows.

    :ivar rows: int64 (n,), ascending.
    :ivar lengths: uint32 (n,), how many terms each text has.
    :ivar forms: all terms in UTF-8, sorted, one behind the other, uint8.
    :ivar ends: int64 (terms,), where each term ends in ``forms``.
    :ivar stops: int64 (terms,), where the postings of each term end in ``documents`` and ``counts``.
    """

    rows: NDArray[np.int64]
    lengths: NDArray[np.uint32]
    forms: NDArray[np.uint8]
    ends: NDArray[np.int64]
    stops: NDArray[np.int64]
    documents: NDArray[np.uint32]
    counts: NDArray[np.uint8]
    known: dict[Any, Any] = field(default_factory=dict, compare=False)
    """What searches have found out about terms; see :mod:`index.lexical.bm25`."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def total(self) -> int:
        """Terms of all texts."""
        return int(self.lengths.sum(dtype=np.int64))

    def of(self, term: Term) -> TermList | None:
        """The texts that have a term, or one that begins so; None if there is none."""
        form = term.form.encode()
        first = self._position(form)
        if term.prefix:
            return self._merged(first, self._position(form + _LAST))
        if first == len(self.ends) or self._form(first) != form:
            return None
        start, stop = self._span(first)
        return TermList(self.documents[start:stop], self.counts[start:stop])

    def _merged(self, first: int, last: int) -> TermList | None:
        """The texts that have one of neighboring terms or more."""
        if first >= last:
            return None
        start, stop = self._span(first)[0], self._span(last - 1)[1]
        documents, where = np.unique(self.documents[start:stop], return_inverse=True)
        counts = np.bincount(where, self.counts[start:stop])
        return TermList(documents, np.minimum(counts, MOST).astype(np.uint8))

    def _span(self, position: int) -> tuple[int, int]:
        return (int(self.stops[position - 1]) if position else 0), int(self.stops[position])

    def _form(self, position: int) -> bytes:
        start = int(self.ends[position - 1]) if position else 0
        return self.forms[start : int(self.ends[position])].tobytes()

    def _position(self, form: bytes) -> int:
        """Of the first term that is not before a form."""
        low, high = 0, len(self.ends)
        while low < high:
            middle = (low + high) // 2
            if self._form(middle) < form:
                low = middle + 1
            else:
                high = middle
        return low


def postings_of_texts(rows: Sequence[int], texts: Sequence[Sequence[str]]) -> Postings:
    """Postings of a few texts, given as their terms; rows ascend."""
    by_form: dict[bytes, list[tuple[int, int]]] = {}
    for position, terms in enumerate(texts):
        for form, count in Counter(terms).items():
            by_form.setdefault(form.encode(), []).append((position, min(count, MOST)))
    forms = sorted(by_form)
    pairs = np.array([pair for form in forms for pair in by_form[form]], dtype=np.int64).reshape(-1, 2)
    return Postings(
        np.array(rows, dtype=np.int64),
        np.array([len(terms) for terms in texts], dtype=np.uint32),
        np.frombuffer(b"".join(forms), dtype=np.uint8),
        np.cumsum([len(form) for form in forms], dtype=np.int64),
        np.cumsum([len(by_form[form]) for form in forms], dtype=np.int64),
        pairs[:, 0].astype(np.uint32),
        pairs[:, 1].astype(np.uint8),
    )


def postings_of_table(
    rows: NDArray[np.int64], terms: Iterable[Occurrences], check: Callable[[], None] = lambda: None
) -> Postings:
    """Postings of all texts, from the full-text index of the database.

    :param rows: of all documents, ascending.
    :param terms: in their order; see :func:`index.storage.fts.occurrences`.
    :param check: called again and again; what it raises stops this.
    """
    lengths = np.zeros(len(rows), dtype=np.int64)
    forms, sizes, documents, counts = [], [], [], []
    for names, numbers, occurrences in terms:
        check()
        term = np.repeat(np.arange(len(names)), numbers)
        position = np.searchsorted(rows, occurrences)
        position[position == len(rows)] = 0
        there = rows[position] == occurrences if len(rows) else np.zeros(len(occurrences), dtype=bool)
        term, position = term[there], position[there]  # of what has no document nobody asks
        first = np.flatnonzero(np.diff(term, prepend=-1) | np.diff(position, prepend=-1))
        often = np.diff(first, append=len(term))
        np.add.at(lengths, position, 1)
        forms += names
        sizes.append(np.bincount(term[first], minlength=len(names)))
        documents.append(position[first].astype(np.uint32))
        counts.append(np.minimum(often, MOST).astype(np.uint8))
    return Postings(
        rows,
        lengths.astype(np.uint32),
        np.frombuffer(b"".join(forms), dtype=np.uint8),
        np.cumsum([len(form) for form in forms], dtype=np.int64),
        np.cumsum(np.concatenate([[], *sizes]), dtype=np.int64),
        np.concatenate([np.empty(0, dtype=np.uint32), *documents]),
        np.concatenate([np.empty(0, dtype=np.uint8), *counts]),
    )
