"""What a server's own figures say about a collection: vacuum, indexes, memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from psycopg.rows import dict_row

from index.engines.postgres import pg_schema
from index.engines.postgres.pg_connection import Connection, PgDatabase

_DEAD_SHARE = 0.2  # of rows, from which on scans and the graph are noticeably slower
_DEAD_LEAST = 1000
_FIGURES = """
SELECT coalesce(s.n_live_tup, 0) AS live, coalesce(s.n_dead_tup, 0) AS dead,
    greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed,
    coalesce(pg_relation_size(to_regclass(%(graph)s)), 0) AS graph,
    pg_size_bytes(current_setting('shared_buffers')) AS buffers,
    pg_size_bytes(current_setting('maintenance_work_mem')) AS working,
    current_setting('autovacuum')::boolean AND NOT coalesce(c.reloptions @> '{{autovacuum_enabled=false}}', false)
        AS automatic
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.oid = to_regclass(%(documents)s)
"""
_INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = to_regclass(%s) AND NOT indisvalid"


def advice(database: PgDatabase, connection: Connection, *, due: bool, unindexed: int) -> tuple[str, ...]:
    """What should be done, most urgent first; empty where nothing is to be done.

    :param due: whether a graph should be there and is not.
    :param unindexed: fields that filters have asked for and that have no index.
    """
    schema = database.address.schema
    names = {"graph": f'"{schema}".{pg_schema.GRAPH}', "documents": f'"{schema}".documents'}
    with connection.cursor(row_factory=dict_row) as cursor:
        figures = cursor.execute(database.named(_FIGURES), names).fetchone()
    invalid = [name for (name,) in connection.execute(_INVALID, (names["documents"],)).fetchall()]
    return tuple(_told(figures or {}, invalid, due=due, unindexed=unindexed))


def _told(figures: Mapping[str, Any], invalid: list[str], *, due: bool, unindexed: int) -> Iterator[str]:
    if due:
        yield "all documents are compared: there is no graph; run compact"
    if invalid:
        yield f"an interrupted build has left {', '.join(invalid)}; run compact"
    if not figures:
        return
    dead, live = figures["dead"], figures["live"]
    if dead >= max(_DEAD_LEAST, _DEAD_SHARE * live):
        yield f"{dead} of {dead + live} rows are deleted and not yet vacuumed; run compact, or VACUUM"
    if not figures["automatic"]:
        yield "autovacuum is off; turn it on, or run compact after many writes"
    if figures["graph"] > figures["buffers"]:
        sizes = _size(figures["graph"]), _size(figures["buffers"])
        yield f"the graph has {sizes[0]}, shared_buffers {sizes[1]}; raise shared_buffers"
    if figures["graph"] > figures["working"]:
        yield (
            f"the graph has {_size(figures['graph'])}, maintenance_work_mem {_size(figures['working'])}: building it "
            "goes through the disk; raise maintenance_work_mem"
        )
    if unindexed:
        yield f"{unindexed} fields that filters ask for have no index; run compact"


def _size(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
