"""The tables of a collection in PostgreSQL.

One schema for each. A row never changes but for its vector while another model's are filled in: a document that is
written again gets a new row, as in the embedded engine. The metadata are kept twice: as they were written, and as
``jsonb`` to be filtered.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from psycopg import sql

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from index.engines.postgres.pg_connection import Connection, PgDatabase
from index.storage.schema import About
from index.text.words import words_by

FORMAT_VERSION = 1
_log = logging.getLogger(__name__)
STORAGES = {"float32": "vector", "float16": "halfvec"}
"""How vectors are kept, and pgvector's type for it."""
GRAPH = "documents_by_vector"
"""Name of the index over vectors."""
_GRAPH_ROOM, _GRAPH_LINKS = 1.5, 300
"""Memory of a graph while it is built, in proportion to its vectors and to the bytes of a row's links."""
# Not beyond shared_buffers, which is a share of the machine's memory that somebody chose: by default 128 MB.
GRAPH_MEMORY = """
SELECT set_config('maintenance_work_mem', greatest(
    pg_size_bytes(current_setting('maintenance_work_mem')),
    least(%s, pg_size_bytes(current_setting('shared_buffers')))) / 1024 || 'kB', false)
"""
OLDER: dict[int, str] = {}
"""Formats of before, and the statements that bring each to the next one; there are none yet."""
_META = """
SELECT key, value FROM {schema}.meta
UNION ALL SELECT 'graph', 'valid' FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid
"""
_TABLES = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.meta (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE {schema}.documents (
    row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    source text COLLATE "C",
    text text NOT NULL,
    metadata text NOT NULL,
    fields jsonb NOT NULL,
    checksum bigint NOT NULL,
    length integer NOT NULL,
    vector {type} NOT NULL,
    vector_checksum bigint NOT NULL
);
CREATE INDEX documents_by_source ON {schema}.documents (source) WHERE source IS NOT NULL;
CREATE TABLE {schema}.postings (
    term text COLLATE "C", row bigint, count integer NOT NULL, length integer NOT NULL, PRIMARY KEY (term, row)
);
CREATE INDEX postings_by_row ON {schema}.postings (row);
CREATE FUNCTION {schema}.as_number(value jsonb) RETURNS numeric IMMUTABLE PARALLEL SAFE LANGUAGE sql
    AS $$ SELECT CASE WHEN jsonb_typeof(value) = 'number' THEN value::numeric END $$;
CREATE FUNCTION {schema}.as_text(value jsonb) RETURNS text IMMUTABLE PARALLEL SAFE LANGUAGE sql
    AS $$ SELECT CASE WHEN jsonb_typeof(value) = 'string' THEN value #>> '{{}}' END $$;
"""


def type_of(about: About) -> sql.SQL:
    """Pgvector's type of the vectors, with their width."""
    return sql.SQL(f"{STORAGES[about.storage]}({about.dim})")


def create(database: PgDatabase, about: About, stemming: str | None) -> None:
    """Make the tables of an empty collection.

    :raises InputError: if it exists, or PostgreSQL has no such storage, or no pgvector.
    """
    if about.storage not in STORAGES:
        raise InputError(f"PostgreSQL keeps vectors as {', '.join(STORAGES)}, not as {about.storage!r}.")
    with database.writing() as connection:
        available = "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
        if connection.execute(available).fetchone() is None:
            raise InputError(f"The server of {database.address} has no pgvector. Install the extension 'vector'.")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        if exists(database, connection):
            raise InputError(f"{database.address} exists already. Open it, or drop it.")
        connection.execute(database.named(_TABLES, type=type_of(about)))
        meta = {"format_version": FORMAT_VERSION, "sequence": 0, "count": 0, **about._asdict()}
        meta |= {"stemming": stemming or "", "words": words_by(stemming).rules}
        set_meta(database, connection, meta)


def bring_up_to_date(database: PgDatabase, connection: Connection) -> None:
    """Bring the tables of an older format to this one, in the transaction of a connection that writes.

    :raises SaveError: if the user may not change tables; nothing is changed then.
    """
    meta = _meta(database, connection)
    while int(meta.get("format_version", 0)) in OLDER:
        version = int(meta["format_version"])
        _log.info("%s is brought from format %d to %d", database.address, version, version + 1)
        connection.execute(database.named(OLDER[version]))
        set_meta(database, connection, {"format_version": version + 1})
        meta = _meta(database, connection)


def is_older(database: PgDatabase, connection: Connection) -> bool:
    """Whether the tables are of an older format that can be brought to this one."""
    version = _meta(database, connection).get("format_version", "")
    return version.isdecimal() and int(version) in OLDER


def exists(database: PgDatabase, connection: Connection) -> bool:
    """Whether there is such a collection."""
    query = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
    return connection.execute(query, (database.address.schema,)).fetchone() is not None


def drop(database: PgDatabase) -> None:
    """Remove a collection.

    :raises FileMissingError: if there is none.
    """
    with database.writing() as connection:
        if not exists(database, connection):
            raise FileMissingError(f"{database.address} does not exist.")
        connection.execute(database.named("DROP SCHEMA {schema} CASCADE"))


def build_graph(database: PgDatabase, connection: Connection, about: About, count: int) -> None:
    """Build the graph anew, beside searches and writes.

    :param connection: outside of any transaction.
    :param count: of the documents, by which it is given memory: a graph that does not fit goes through the disk.
    """
    needed = int(_GRAPH_ROOM * count * (about.dim * np.dtype(about.dtype).itemsize + _GRAPH_LINKS))
    connection.execute(GRAPH_MEMORY, (needed,))
    try:
        name = sql.Identifier(GRAPH)
        drop = database.named("DROP INDEX IF EXISTS {schema}.{name}", name=name)
        connection.execute(drop)  # one that an interrupted build has left
        statement = "CREATE INDEX CONCURRENTLY {name} ON {schema}.documents USING hnsw (vector {operators})"
        operators = sql.SQL(f"{STORAGES[about.storage]}_ip_ops")
        connection.execute(database.named(statement, name=name, operators=operators))
    finally:
        if not connection.closed:
            connection.execute("RESET maintenance_work_mem")


def set_meta(database: PgDatabase, connection: Connection, values: dict[str, Any]) -> None:
    """Write what a collection says of itself."""
    statement = "INSERT INTO {schema}.meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    with connection.cursor() as cursor:
        cursor.executemany(database.named(statement), [(key, str(value)) for key, value in values.items()])


def get_meta(database: PgDatabase, connection: Connection) -> dict[str, str]:
    """What a collection says of itself.

    :raises FileMissingError: if there is none.
    :raises FileCorruptError: if it is of another format.
    """
    meta = _meta(database, connection)
    if meta.get("format_version") != str(FORMAT_VERSION):
        raise FileCorruptError(
            f"{database.address} has format version {meta.get('format_version')!r}, this encoder-tools reads "
            f"{FORMAT_VERSION}. Upgrade encoder-tools."
        )
    return meta


def _meta(database: PgDatabase, connection: Connection) -> dict[str, str]:
    graph = f'"{database.address.schema}".{GRAPH}'
    return dict(connection.execute(database.named(_META), (graph,)).fetchall())


def about_in(meta: dict[str, str], prefix: str = "") -> About | None:
    """The model of the vectors, or of those that ``prefix`` names; None of none."""
    if f"{prefix}fingerprint" not in meta:
        return None
    dim, fingerprint, space, storage = (meta[f"{prefix}{name}"] for name in About._fields)
    return About(int(dim), fingerprint, space, storage)
