"""Indexes of the fields that filters ask for, by which the server finds what matches and estimates how much that is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from psycopg import sql

from index.engines.postgres.pg_conditions import field
from index.engines.postgres.pg_connection import Connection, PgDatabase
from index.engines.postgres.pg_schema import set_meta
from index.query.filters import Path

MOST = 32
"""Fields that are indexed, the first ones: each costs every write."""
_KINDS = {"value": "USING hash ({at})", "number": "USING btree (({schema}.as_number({at})))"}
"""By a hash, because a value may be too long for a tree."""


def indexed_fields(meta: dict[str, str]) -> set[Path]:
    """Those that have an index."""
    return {tuple(path) for path in json.loads(meta.get("fields", "[]"))}


def index_fields(database: PgDatabase, connection: Connection, known: set[Path], named: Iterable[Path]) -> None:
    """Index more fields, beside searches and writes.

    :param connection: outside of any transaction.
    """
    new = sorted(set(named) - known)[: max(0, MOST - len(known))]
    for path in new:
        for kind, definition in _KINDS.items():
            mark = hashlib.blake2b(json.dumps(path).encode(), digest_size=8).hexdigest()
            name = sql.Identifier(f"documents_{kind}_{mark}")
            connection.execute(database.named("DROP INDEX IF EXISTS {schema}.{name}", name=name))
            statement = f"CREATE INDEX CONCURRENTLY {{name}} ON {{schema}}.documents {definition}"
            connection.execute(database.named(statement, name=name, at=field(path, with_values=False)))
    if new:
        with database.writing() as writing:
            set_meta(database, writing, {"fields": json.dumps(sorted(known | set(new)))})
