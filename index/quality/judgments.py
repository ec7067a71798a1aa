"""Queries and which documents answer them, as BEIR, TREC and most others write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder_tools.errors import InputError
from encoder_tools.io.decoding import lines_of
from encoder_tools.io.rows import kind_of, read_rows

_QUERY_IDS = ("id", "_id", "query_id", "query-id", "qid")
_QUERIES = ("text", "query", "question")
_OF_QUERY = ("query_id", "query-id", "qid", "query")
_DOCUMENTS = ("doc_id", "corpus-id", "corpus_id", "document", "document_id", "docid", "pid")
_GRADES = ("relevance", "score", "grade", "label", "rel")


@dataclass(frozen=True)
class Judged:
    """Queries with their judged documents.

    :ivar queries: texts by id.
    :ivar relevance: for each query the grades of documents by their ids as texts: 0 for none, the higher the better.
    :ivar left_out: queries that have no relevant document, and judgments of queries that are not there.
    """

    queries: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, int]]
    left_out: int = 0


def read_judged(queries: Path, judgments: Path) -> Judged:
    """Read both files.

    :param queries: rows (CSV, TSV, JSON Lines, Parquet, also .gz) with an id and a text.
    :param judgments: rows with the ids of a query and of a document, and a grade (1 if there is none); or TREC's four
        columns without a header, separated by blanks.
    :raises InputError: naming the column that is missing, or the grade that is no number.
    """
    texts = {}
    for row in read_rows(queries):
        identifier, text = _of(row, _QUERY_IDS, queries), _of(row, _QUERIES, queries)
        texts[str(identifier)] = str(text)
    relevance: dict[str, dict[str, int]] = {}
    for query, document, grade in _judgments(judgments):
        relevance.setdefault(query, {})[document] = grade
    useful = {query for query, grades in relevance.items() if any(grade > 0 for grade in grades.values())}
    both = [query for query in texts if query in useful]
    if not both:
        raise InputError(f"No query of {queries} has a relevant document in {judgments}. Check their ids.")
    left_out = len(texts.keys() | relevance.keys()) - len(both)
    return Judged({query: texts[query] for query in both}, {query: relevance[query] for query in both}, left_out)


def _judgments(path: Path) -> Iterable[tuple[str, str, int]]:
    if kind_of(path) is None:
        yield from _of_trec(path)
        return
    for row in read_rows(path):
        grade = next((row[name] for name in _GRADES if name in row), 1)
        yield str(_of(row, _OF_QUERY, path)), str(_of(row, _DOCUMENTS, path)), _grade(grade, path)


def _of_trec(path: Path) -> Iterable[tuple[str, str, int]]:
    for number, line in enumerate(lines_of(path), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 4:
            raise InputError(
                f"Line {number} of {path} has {len(parts)} columns, expected 4: query, 0, document, grade."
            )
        yield parts[0], parts[2], _grade(parts[3], path)


def _of(row: Mapping[str, Any], names: tuple[str, ...], path: Path) -> Any:
    for name in names:
        if row.get(name) not in (None, ""):
            return row[name]
    raise InputError(f"A row of {path} has {', '.join(map(str, row))}, expected one of {', '.join(names)}.")


def _grade(value: Any, path: Path) -> int:
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"A grade of {path} is {value!r}, expected a number.") from None
