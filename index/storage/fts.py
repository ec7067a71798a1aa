"""Full-text search: SQLite's FTS5, in the same transaction as the documents, ranked by BM25.

What a word is, :mod:`index.text.words` says, for texts and queries alike; FTS5 holds the terms and knows nothing of
texts. BM25 costs the number of texts that have one of a query's terms, and terms that most texts have say next to
nothing: of a query's terms the rarest are looked for, as long as all of them together are in ``BUDGET`` texts or fewer.
Where even the rarest is in more, the texts that were written first are ranked. Among as few texts as that, where a
filter leaves no more, every term counts and every match is ranked. Of more texts than that, this ranks only until there
are postings, see :mod:`index.lexical`.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError, InputError, SaveError
from index.text.words import Term, Word, Words, words_by

TABLE = """
CREATE VIRTUAL TABLE terms USING fts5 (term, content = '', tokenize = "ascii tokenchars '+#.@'");
"""
BUDGET = 20_000
"""Texts that are scored."""
_MOST_TERMS = 256  # of a query that ranks
_MOST_WORDS = 1000  # of a filter: each must be there
_VOCABULARY = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab ('main', 'terms', 'row')"
_INSTANCES = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.instances USING fts5vocab ('main', 'terms', 'instance')"
_PLACES = "SELECT term, count(*), group_concat(doc) FROM temp.instances GROUP BY term"
_AT_ONCE = 100_000  # occurrences that are read as numbers together, while nothing else runs
_LAST = chr(0x10FFFF)
_MASK = 2**64 - 1

Found = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Row numbers and BM25 scores, best first; of equal ones the older row."""


class Occurrences(NamedTuple):
    """Of some terms.

    :ivar numbers: how often each occurs, ``rows`` where, one term behind the other, a row as often as it has the term.
    """

    terms: list[bytes]
    numbers: list[int]
    rows: NDArray[np.int64]


def words_in(connection: sqlite3.Connection) -> Words:
    """The rule of a collection's words."""
    line = connection.execute("SELECT value FROM meta WHERE key = 'stemming'").fetchone()
    return words_by((line and line[0]) or None)


def words_to_write(connection: sqlite3.Connection) -> Words:
    """The rule of a collection's words, if its terms are of this version of it.

    :raises SaveError: if another process indexes, or has indexed, the texts by another version.
    """
    words = words_in(connection)
    line = connection.execute("SELECT value FROM meta WHERE key = 'words'").fetchone()
    if line is None or line[0] != words.rules:
        raise SaveError(
            f"The collection's words are of rules {line and line[0]!r}, expected {words.rules!r}: another process has "
            "indexed them again since it was opened. Nothing was written; open it again."
        )
    return words


def query_terms(words: Words, text: str) -> list[Term]:
    """The terms by which texts are ranked for a query, each once."""
    return list(dict.fromkeys(term for word in words.query(text) for term in word.terms))[:_MOST_TERMS]


def filter_words(words: Words, text: str) -> list[Word]:
    """The words that a text must have all of, each once.

    :raises InputError: for very many words.
    """
    named = words.query(text)
    if len(named) > _MOST_WORDS:
        raise InputError(f"$text of the filter has {len(named)} words, expected {_MOST_WORDS} at most.")
    return named


def find(connection: sqlite3.Connection, text: str, among: NDArray[np.int64] | None = None) -> Found:
    """Rows that have one of a text's terms or more, see above, and how well they match.

    :param among: rows; none but those are found.
    """
    terms = query_terms(words_in(connection), text)
    few = among is not None and len(among) <= BUDGET
    chosen = terms if few else _affordable(connection, terms)
    if not chosen:
        return np.empty(0, dtype=np.int64), np.empty(0)
    query, values = "SELECT rowid, -bm25(terms) FROM terms WHERE terms MATCH ?", [" OR ".join(map(_quoted, chosen))]
    if among is not None:
        query += " AND rowid IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(among.tolist()))
    lines = connection.execute(f"{query} LIMIT {BUDGET}", values).fetchall()
    rows = np.array([row for row, _ in lines], dtype=np.int64)
    scores = np.array([score for _, score in lines], dtype=np.float64)
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]


def rows_with(connection: sqlite3.Connection, text: str) -> NDArray[np.int64]:
    """Rows that have all of a text's words, ascending; none for a text without words.

    :raises InputError: for a text of very many words.
    """
    words_of_query = filter_words(words_in(connection), text)
    if not words_of_query:
        return np.empty(0, dtype=np.int64)
    query = " AND ".join(map(_expression, words_of_query))
    lines = connection.execute("SELECT rowid FROM terms WHERE terms MATCH ?", (query,))
    return np.sort(np.array([row for (row,) in lines], dtype=np.int64))


def add(connection: sqlite3.Connection, words: Words, rows: Iterable[int], texts: Iterable[str]) -> None:
    """Make the texts of new documents findable."""
    lines = ((row, " ".join(words.stored(text))) for row, text in zip(rows, texts, strict=True))
    connection.executemany("INSERT INTO terms (rowid, term) VALUES (?, ?)", lines)


def take_out(connection: sqlite3.Connection, words: Words, row: int, text: str) -> None:
    """Forget a document's terms; FTS5 asks for those that it was given."""
    line = row, " ".join(words.stored(text))
    connection.execute("INSERT INTO terms (terms, rowid, term) VALUES ('delete', ?, ?)", line)


def occurrences(connection: sqlite3.Connection) -> Iterator[Occurrences]:
    """All terms in their order, some of them at a time.

    SQLite makes one line of text of all places of a term, without holding up other threads meanwhile.
    """
    connection.execute(_INSTANCES)
    names: list[bytes] = []
    numbers: list[int] = []
    places: list[str] = []
    waiting = 0
    for name, number, rows in connection.execute(_PLACES):
        names.append(name.encode())
        numbers.append(number)
        places.append(rows)
        waiting += number
        if waiting >= _AT_ONCE:
            yield Occurrences(names, numbers, _numbers(places))
            names, numbers, places, waiting = [], [], [], 0
    if names:
        yield Occurrences(names, numbers, _numbers(places))


def _numbers(places: list[str]) -> NDArray[np.int64]:
    return np.fromstring(",".join(places), dtype=np.int64, sep=",")


def check(connection: sqlite3.Connection) -> None:
    """Compare all terms with all texts.

    :raises sqlite3.DatabaseError: if FTS5's own structure is damaged.
    :raises FileCorruptError: if the terms of a text are not its own.
    """
    connection.execute("INSERT INTO terms (terms, rank) VALUES ('integrity-check', 0)")
    connection.execute(_INSTANCES)
    words, sums = words_in(connection), dict[int, int]()
    for term, row, offset in connection.execute("SELECT term, doc, offset FROM temp.instances"):
        sums[row] = sums.get(row, 0) + hash((term, offset)) & _MASK
    for row, text in connection.execute("SELECT row, text FROM documents"):
        own = 0
        for offset, term in enumerate(words.stored(text)):
            own = own + hash((term, offset)) & _MASK
        if sums.pop(row, 0) != own:
            raise FileCorruptError(
                f"The words of the document in row {row} are not those of its text. Restore a backup."
            )
    if sums:
        raise FileCorruptError(f"There are words of row {min(sums)}, which has no document. Restore a backup.")


def _affordable(connection: sqlite3.Connection, terms: list[Term]) -> list[Term]:
    """The rarest terms that some text has, up to the budget, one at least."""
    connection.execute(_VOCABULARY)
    counted = [(_texts_with(connection, term), term) for term in terms]
    chosen: list[Term] = []
    spent = 0
    for count, term in sorted((pair for pair in counted if pair[0]), key=lambda pair: pair[0]):
        if spent and spent + count > BUDGET:
            break
        spent += count
        chosen.append(term)
    return chosen


def _texts_with(connection: sqlite3.Connection, term: Term) -> int:
    query, values = "SELECT doc FROM temp.vocabulary WHERE term = ?", [term.form]
    if term.prefix:
        query = "SELECT sum(doc) FROM temp.vocabulary WHERE term >= ? AND term < ?"
        values = [term.form, term.form + _LAST]
    line = connection.execute(query, values).fetchone()
    return 0 if line is None else int(line[0] or 0)


def _expression(word: Word) -> str:
    """What FTS5 is to look for: a phrase, or all parts or the whole."""
    if word.phrase:
        return _phrase(term.form for term in word.parts)
    parts = " AND ".join(map(_quoted, word.parts))
    return f"({parts})" if word.whole is None else f"(({parts}) OR {_quoted(word.whole)})"


def _quoted(term: Term) -> str:
    return _phrase([term.form]) + ("*" if term.prefix else "")


def _phrase(forms: Iterable[str]) -> str:
    """Terms as FTS5's string, in which nothing is an operator; they hold no quotation mark."""
    return f'"{" ".join(forms)}"'
