"""Filters as conditions of SQL, which match the documents that the embedded engine's match.

Metadata are ``jsonb``: its equality is JSON's (1 and 1.0 are equal, 1 and true are not). A path leads through objects
alone, so steps are ``->`` with a name: ``#>`` would take a number for a place in an array.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.types.json import Jsonb

from index.engines.postgres.pg_address import PgAddress
from index.query.filters import All, Condition, Filter, Not, Path, Words

_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class PgCondition(NamedTuple):
    """A condition, and what its parameters are."""

    statement: sql.Composable
    values: tuple[Any, ...] = ()


EVERYTHING = PgCondition(sql.SQL("TRUE"))


def compiled(
    condition: Filter, address: PgAddress, rows_with: Callable[[str], Sequence[int]], *, known: bool = False
) -> PgCondition:
    """A filter for the table of documents.

    :param rows_with: gives the rows that have all words of a text.
    :param known: of a document without the field it is false and not unknown, which a negation needs. Elsewhere the
        two are alike, and the server's planner knows more of a condition without a coalesce around it.
    """
    if isinstance(condition, Words):
        return PgCondition(sql.SQL("documents.row = ANY(%s)"), (list(rows_with(condition.text)),))
    if isinstance(condition, Condition):
        made = _leaf(condition, sql.Identifier(address.schema))
        return PgCondition(sql.SQL("coalesce({}, FALSE)").format(made.statement), made.values) if known else made
    if isinstance(condition, Not):
        part = compiled(condition.part, address, rows_with, known=True)
        return PgCondition(sql.SQL("NOT {}").format(part.statement), part.values)
    parts = [compiled(part, address, rows_with, known=known) for part in condition.parts]
    both = isinstance(condition, All)
    if not parts:
        return EVERYTHING if both else PgCondition(sql.SQL("FALSE"))
    joined = sql.SQL(" AND " if both else " OR ").join(part.statement for part in parts)
    return PgCondition(sql.SQL("({})").format(joined), tuple(value for part in parts for value in part.values))


def field(path: Path, *, with_values: bool = True) -> sql.Composable:
    """What is at a path of the metadata, or NULL.

    :param with_values: whether the statement is run with parameters, where a percent sign in a name is written twice.
    """
    steps = "".join(f" -> {sql.Literal(name).as_string(None)}" for name in path)
    return sql.SQL(
        f"(fields{steps.replace('%', '%%') if with_values else steps})".replace("{", "{{").replace("}", "}}")
    ).format()


def _leaf(condition: Condition, schema: sql.Identifier) -> PgCondition:
    at, value = field(condition.path), condition.value
    if condition.operator == "exists":
        return PgCondition(sql.SQL("{} IS NOT NULL" if value else "{} IS NULL").format(at))
    if condition.operator == "eq":
        return PgCondition(sql.SQL("{} = %s").format(at), (Jsonb(value),))
    if condition.operator == "in":
        return PgCondition(sql.SQL("{} = ANY(%s::jsonb[])").format(at), ([Jsonb(one) for one in value],))
    if condition.operator == "contains":
        statement = (
            "jsonb_typeof({at}) = 'array' AND EXISTS (SELECT 1 FROM jsonb_array_elements(CASE WHEN "
            "jsonb_typeof({at}) = 'array' THEN {at} END) AS element WHERE element = %s)"
        )
        return PgCondition(sql.SQL(statement).format(at=at), (Jsonb(value),))
    compare = sql.SQL(_COMPARE[condition.operator])
    if isinstance(value, str):
        statement = '{schema}.as_text({at}) COLLATE "C" {compare} %s'
        return PgCondition(sql.SQL(statement).format(schema=schema, at=at, compare=compare), (value,))
    statement = "{schema}.as_number({at}) {compare} %s::numeric"
    return PgCondition(sql.SQL(statement).format(schema=schema, at=at, compare=compare), (json.dumps(value),))
