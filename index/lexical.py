"""Search by words: SQLite's FTS5, in the same transaction as the documents, ranked by BM25.

Words are folded as FTS5's unicode61 tokenizer does it: lower case, without diacritics, split at what is neither letter
nor digit. BM25 costs the number of texts that have one of a query's words, and words that most texts have say next to
nothing: of a query's words the rarest are looked for, as long as all of them together are in ``_BUDGET`` texts or
fewer. Where even the rarest is in more, the texts that were written first are ranked. Among as few texts as that, where
a filter leaves no more, every word counts and every match is ranked.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata

import numpy as np
from numpy.typing import NDArray

TABLE = """
CREATE VIRTUAL TABLE words USING fts5 (
    text, content = 'documents', content_rowid = 'row', tokenize = "unicode61 remove_diacritics 2"
);
"""
_BUDGET = 20_000  # texts that are scored
_MOST_WORDS = 64
_VOCABULARY = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab ('main', 'words', 'row')"
_WORD = re.compile(r"[^\W_]+")

Found = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Row numbers and BM25 scores, best first; of equal ones the older row."""


def find(connection: sqlite3.Connection, text: str, among: NDArray[np.int64] | None = None) -> Found:
    """Rows that have one of a text's words or more, see above, and how well they match.

    :param among: rows; none but those are found.
    """
    words = words_of(text)[:_MOST_WORDS]
    few = among is not None and len(among) <= _BUDGET
    chosen = words if few else _affordable(connection, words)
    if not chosen:
        return np.empty(0, dtype=np.int64), np.empty(0)
    query, values = "SELECT rowid, -bm25(words) FROM words WHERE words MATCH ?", [" OR ".join(map(_quoted, chosen))]
    if among is not None:
        query += " AND rowid IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(among.tolist()))
    lines = connection.execute(f"{query} LIMIT {_BUDGET}", values).fetchall()
    rows = np.array([row for row, _ in lines], dtype=np.int64)
    scores = np.array([score for _, score in lines], dtype=np.float64)
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]


def rows_with(connection: sqlite3.Connection, text: str) -> NDArray[np.int64]:
    """Rows that have all of a text's words, ascending; none for a text without words."""
    words = words_of(text)
    if not words:
        return np.empty(0, dtype=np.int64)
    lines = connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (" AND ".join(map(_quoted, words)),))
    return np.sort(np.array([row for (row,) in lines], dtype=np.int64))


def words_of(text: str) -> list[str]:
    """Distinct folded words, in their order."""
    marked = unicodedata.normalize("NFD", text.lower())
    plain = unicodedata.normalize("NFC", "".join(letter for letter in marked if not unicodedata.combining(letter)))
    return list(dict.fromkeys(_WORD.findall(plain)))


def add(connection: sqlite3.Connection, rows: range, texts: list[str]) -> None:
    """Make the texts of new documents findable."""
    connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", zip(rows, texts, strict=True))


def take_out(connection: sqlite3.Connection, row: int, text: str) -> None:
    """Forget a document's words; FTS5 asks for the text that it was given."""
    connection.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (row, text))


def check(connection: sqlite3.Connection) -> None:
    """Compare all words with all texts.

    :raises sqlite3.DatabaseError: if they differ.
    """
    connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")


def _affordable(connection: sqlite3.Connection, words: list[str]) -> list[str]:
    """The rarest words that some text has, up to the budget, one at least."""
    connection.execute(_VOCABULARY)
    counted = []
    for word in words:
        found = connection.execute("SELECT doc FROM temp.vocabulary WHERE term = ?", (word,)).fetchone()
        counted.append((0 if found is None else int(found[0]), word))
    chosen: list[str] = []
    spent = 0
    for count, word in sorted(counted, key=lambda pair: pair[0]):
        if spent and spent + count > _BUDGET:
            break
        spent += count
        chosen.append(word)  # also one that is counted as 0: folded otherwise, it may be there all the same
    return chosen


def _quoted(word: str) -> str:
    """A word as FTS5's string, in which nothing is an operator; it holds no quotation mark."""
    return f'"{word}"'
