"""Search by words from our own postings: the words and the BM25 of the embedded engine, computed by the server.

Scores are those of SQLite's FTS5 (k1 1.2, b 0.75, weights of rare words, at least 1e-6). Extensions with a BM25 of
their own (pg_search, vchord_bm25) have other words, so that the engines would not agree; they are not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from psycopg import sql

from index.engines.postgres.pg_conditions import EVERYTHING, PgCondition
from index.engines.postgres.pg_reader import PgReader
from index.storage.fts import filter_words, query_terms
from index.text.words import Term, Word

_LAST = chr(0x10FFFF)
# Summed in one order, so that of equal texts none is better by a rounding.
_RANKED = """
WITH query (number, form, until) AS (SELECT * FROM unnest(%s::int[], %s::text[], %s::text[])),
hits AS MATERIALIZED (
    SELECT q.number, p.row, sum(p.count)::float8 AS count, min(p.length) AS length FROM query q JOIN {schema}.postings p
    ON p.term = q.form COLLATE "C"
        OR (q.until IS NOT NULL AND p.term > q.form COLLATE "C" AND p.term < q.until COLLATE "C")
    GROUP BY q.number, p.row
),
weights AS (
    SELECT number, greatest(ln((%s - count(*) + 0.5) / (count(*) + 0.5)), 1e-6)::float8 AS weight
    FROM hits GROUP BY number
),
scored AS (
    SELECT h.row, sum(
        w.weight * h.count * 2.2 / (h.count + 1.2 * (0.25 + 0.75 * h.length / %s::float8)) ORDER BY h.number
    ) AS score
    FROM hits h JOIN weights w USING (number) {documents}
    GROUP BY h.row
)
SELECT row, score FROM scored ORDER BY score DESC, row LIMIT %s
"""


class Ranked(NamedTuple):
    """A statement that gives rows and scores, and what its parameters are."""

    statement: sql.Composed
    values: tuple[Any, ...]


def ranked(reader: PgReader, text: str, k: int, condition: PgCondition) -> Ranked | None:
    """Gives rows and BM25 scores of the ``k`` that match a text's words best; of equal ones the older row first.

    None for a text that has no words.
    """
    terms = query_terms(reader.words, text)
    total = int(reader.meta.get("length", 0))
    if not terms or not total:
        return None
    until = [term.form + _LAST if term.prefix else None for term in terms]
    values = (list(range(len(terms))), [term.form for term in terms], until)
    average = total / reader.count()
    filtered = sql.SQL("JOIN {schema}.documents ON documents.row = h.row WHERE {condition}").format(
        schema=sql.Identifier(reader.database.address.schema), condition=condition.statement
    )
    documents = sql.SQL("") if condition is EVERYTHING else filtered
    given = (*values, reader.count(), average, *condition.values, k)
    return Ranked(reader.database.named(_RANKED, documents=documents), given)


def rows_with(reader: PgReader, text: str) -> list[int]:
    """Rows that have all of a text's words, ascending; none for a text without words.

    :raises InputError: for a text of very many words.
    """
    rows: set[int] | None = None
    for word in filter_words(reader.words, text):
        own = set(_rows_of_word(reader, word))
        rows = own if rows is None else rows & own
        if not rows:
            return []
    return sorted(rows or ())


def _rows_of_word(reader: PgReader, word: Word) -> Sequence[int]:
    rows = set(_having(reader, word.parts[0]))
    for part in word.parts[1:]:
        rows &= set(_having(reader, part))
    if word.phrase and len(word.parts) > 1:
        documents = reader.by_rows(sorted(rows))
        rows = {row for row, document in documents.items() if word.stands_in(reader.words.stored(document.text))}
    return sorted(rows | (set() if word.whole is None else set(_having(reader, word.whole))))


def _having(reader: PgReader, term: Term) -> Iterator[int]:
    query, values = "SELECT row FROM {schema}.postings WHERE term = %s", [term.form]
    if term.prefix:
        query, values = (
            "SELECT row FROM {schema}.postings WHERE term >= %s AND term < %s",
            [term.form, term.form + _LAST],
        )
    return (row for (row,) in reader.all(query, values))
