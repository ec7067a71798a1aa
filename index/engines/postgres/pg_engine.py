"""The engine over PostgreSQL: one open collection, and how one is made, opened and removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.protocols import TextEncoder
from index.collection.encoding import about_of
from index.engines.postgres import pg_schema
from index.engines.postgres.pg_address import PgAddress
from index.engines.postgres.pg_advice import advice
from index.engines.postgres.pg_connection import PgDatabase
from index.engines.postgres.pg_fields import index_fields, indexed_fields
from index.engines.postgres.pg_reader import PgReader
from index.engines.postgres.pg_shadow import PgShadow
from index.engines.postgres.pg_view import PgView
from index.engines.postgres.pg_writes import PgWrites
from index.engines.remote_engine import RemoteEngine, closed_on_error, tuned_effort
from index.query.filters import Path as FieldPath
from index.results import Stats
from index.storage.schema import About

_VERIFIED_AT_ONCE = 2000


class PostgresType:
    """See :class:`index.collection.engine.EngineType`."""

    def create(self, address: str, encoder: TextEncoder, options: Mapping[str, Any]) -> None:
        """Make an empty collection."""
        with _database(address, options) as database:
            about = about_of(encoder, options.get("storage", "float32"))
            pg_schema.create(database, about, options.get("stemming"))

    def open(self, address: str, encoder: TextEncoder | None, options: Mapping[str, Any]) -> PostgresEngine:
        """Open one."""
        with closed_on_error(_connected(address, options)) as database:
            return PostgresEngine(database, encoder, options)

    def drop(self, address: str) -> None:
        """Remove one."""
        with _database(address, {}) as database:
            pg_schema.drop(database)


def _connected(address: str, options: Mapping[str, Any]) -> PgDatabase:
    return PgDatabase(PgAddress.read(address), float(options.get("busy_timeout", 5.0)))


@contextmanager
def _database(address: str, options: Mapping[str, Any]) -> Iterator[PgDatabase]:
    database = _connected(address, options)
    try:
        with database.explained():
            yield database
    finally:
        database.close()


class PostgresEngine(RemoteEngine):
    """One open collection; see :class:`index.collection.engine.Engine`."""

    def __init__(self, database: PgDatabase, encoder: TextEncoder | None, options: Mapping[str, Any]) -> None:
        self.database = database
        self._fields: set[FieldPath] = set()  # that filters asked for
        self.writes = PgWrites(database)
        super().__init__(database, encoder, options, self._first_about)

    def follow(self) -> None:
        """Learn which model the vectors belong to by now."""
        self._about = self.database.retried(partial(self._read_about, newest=True))

    @contextmanager
    def reading(self) -> Iterator[PgReader]:
        """One committed state of the documents."""
        self.check_open()
        with self.database.reading() as connection:
            yield PgReader(self.database, connection)

    @contextmanager
    def read_view(self) -> Iterator[PgView]:
        """One committed state, to be searched."""
        with self.reading() as reader:
            self._about = reader.about
            yield PgView(reader, indexed=self._indexed(reader), fields=self._fields)

    @contextmanager
    def shadow_reading(self) -> Iterator[PgShadow]:
        """A transaction that reads."""
        with self.database.reading(newest=True) as connection:
            yield PgShadow(self.database, connection)

    @contextmanager
    def shadow_writing(self) -> Iterator[PgShadow]:
        """A transaction that writes."""
        with self.database.writing() as connection:
            yield PgShadow(self.database, connection)

    def ping(self) -> None:
        """Raise an :class:`UnavailableError` if the server cannot be reached now."""
        self.check_open()
        self.database.ping()

    def stats(self) -> Stats:
        """What there is, and how it is searched."""
        with self.reading() as reader:
            indexed = self._indexed(reader)
            size = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = "
            size += "c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'"
            total = reader.connection.execute(size, (self.database.address.schema,)).fetchone()
            coming = reader.coming
            done = None if coming is None else (coming.fingerprint, PgShadow(self.database, reader.connection).done())
            recall = reader.meta.get("recall")
            return Stats(
                reader.count(),
                reader.about.dim,
                "hnsw" if indexed else "flat",
                self._graph.why(reader.count(), indexed=indexed, name="pgvector"),
                float(recall) if recall and indexed else None,
                int(reader.meta["ef_search"]) if recall and indexed else None,
                int((total or (0,))[0] or 0),
                done,
                None,
                reader.about.storage,
                advice(
                    self.database,
                    reader.connection,
                    due=self._graph.due(reader.count()) and not indexed,
                    unindexed=len(self._fields - indexed_fields(reader.meta)),
                ),
            )

    def verify(self) -> int:
        """Read everything, and check it against its checksums and against each other."""
        with self.reading() as reader:
            rows, length, after = 0, 0, -1
            while part := reader.after(after, _VERIFIED_AT_ONCE):
                after = part[-1][0]
                reader.vectors_by_row([row for row, _ in part])
                rows += len(part)
                length += sum(len(reader.words.stored(document.text)) for _, document in part)
            terms = reader.all("SELECT coalesce(sum(count), 0) FROM {schema}.postings")[0][0]
            if rows != reader.count() or {length, int(terms)} != {int(reader.meta.get("length", 0))}:
                raise FileCorruptError(
                    f"{self.folder} holds {rows} documents with {length} words, but says {reader.count()} and "
                    f"{reader.meta.get('length', 0)}, and has postings of {terms}. Restore a backup."
                )
            return rows

    def compact(self) -> None:
        """Build the graph if there should be one, index the fields that filters asked for, and measure."""
        self.check_open()
        with self.reading() as reader:
            count = reader.count()
            due = self._graph.due(count) and "graph" not in reader.meta
            known = indexed_fields(reader.meta)
        with self.database.alone() as connection:
            if due:
                pg_schema.build_graph(self.database, connection, self._about, count)
            index_fields(self.database, connection, known, self._fields)
            connection.execute(self.database.named("VACUUM (ANALYZE) {schema}.documents"))
            connection.execute(self.database.named("VACUUM (ANALYZE) {schema}.postings"))
        self._tune()

    def backup(self, folder: Path) -> None:
        """Not of this engine.

        :raises InputError: always.
        """
        raise InputError(
            f"{self.folder} is backed up by the server's own means: pg_dump --schema "
            f"'\"{self.database.address.schema}\"', or a base backup."
        )

    def _bring_up_to_date(self) -> None:
        """Bring tables of an older format to this one; most are of this one, which a read shows."""
        if not pg_schema.OLDER:
            return
        with self.database.reading(newest=True) as connection:
            older = pg_schema.is_older(self.database, connection)
        if older:
            with self.database.writing() as connection:
                pg_schema.bring_up_to_date(self.database, connection)

    def _first_about(self) -> About:
        self._bring_up_to_date()
        try:
            return self._read_about()
        except FileMissingError:
            if not self.database.has_replicas:
                raise
            return self._read_about(newest=True)  # a replica may not have it yet

    def _read_about(self, *, newest: bool = False) -> About:
        with self.database.reading(newest=newest) as connection:
            return PgReader(self.database, connection).about

    def _indexed(self, reader: PgReader) -> bool:
        return self._graph.due(reader.count()) and "graph" in reader.meta

    def _tune(self) -> None:
        """Find the least effort that has the recall, for queries near stored vectors."""
        with self.read_view() as view:
            if not self._indexed(view.reader):
                return
            reader = view.reader
            tuned = tuned_effort(
                view,
                lambda queries, k, effort: PgView(reader, indexed=True, effort=effort).nearest(queries, k, None),
                self._graph.recall,
            )
        if tuned is not None:
            with self.database.writing() as connection:
                pg_schema.set_meta(self.database, connection, {"ef_search": tuned[0], "recall": tuned[1]})
