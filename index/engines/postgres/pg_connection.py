"""Connections to PostgreSQL: a pool, transactions, errors, and calls that are tried again where a server went away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from encoder_tools.errors import (
    EncoderToolsError,
    FileMissingError,
    SaveError,
    UnavailableError,
    UnstorableError,
    one_line,
)
from index.engines.postgres.pg_address import PgAddress
from index.engines.retrying import retried

T = TypeVar("T")
Connection = psycopg.Connection[Any]
_pool_log = logging.getLogger("psycopg.pool")
_MOST = 16  # connections of a process
_ONE_TRY = 2.0  # seconds
# The lock first: a table that is altered is another one at once for those too who still see the rows of before.
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {schema}.documents IN ACCESS SHARE MODE"
_WRITTEN = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
_CAUGHT_UP = "SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() - '0/0'::pg_lsn >= %s"
_TRANSIENT = (errors.SerializationFailure, errors.DeadlockDetected, errors.ReadOnlySqlTransaction)


class PgDatabase:
    """The database of one collection.

    An address of several servers is one of a primary and its replicas: reads are given to the first that answers, as
    libpq's ``target_session_attrs`` says if it is in the address, writes to the primary, whichever that is.

    :param timeout: seconds to wait for another writer, and for a server that went away.
    """

    def __init__(self, address: PgAddress, timeout: float) -> None:
        self.address, self.timeout = address, timeout
        self._reads = self._pool(address.conninfo)
        several = _has_several_hosts(address.conninfo)
        self._writes = self._pool(_of_primary(address.conninfo)) if several else self._reads
        self._seen = 0  # how far the primary's log was when this client last wrote, or asked the primary
        self._opening, self._opened = threading.Lock(), False
        if _pool_log.level == logging.NOTSET:
            _pool_log.setLevel(logging.ERROR)  # what it warns of is in our errors, if it lasts

    def _pool(self, conninfo: str) -> ConnectionPool[Connection]:
        return ConnectionPool(
            conninfo,
            min_size=0,
            max_size=_MOST,
            open=False,
            # nothing is prepared: a switch to another model's vectors changes what prepared statements give
            kwargs={
                "autocommit": True,
                "connect_timeout": max(2, round(self.timeout)),
                "application_name": "encoder-tools",
                "prepare_threshold": None,
            },
            configure=self._configure,
            check=ConnectionPool.check_connection,
            reconnect_timeout=0,
            max_idle=60,
        )

    def close(self) -> None:
        """Close all connections."""
        self._reads.close()
        self._writes.close()

    def ping(self) -> None:
        """Connect once, beside the pool, whose connections may all be in use.

        :raises UnavailableError: if the server is away.
        """
        with translated(self.address):
            psycopg.connect(self.address.conninfo, connect_timeout=2).close()

    def named(self, text: str, **parts: sql.Composable) -> sql.Composed:
        """A statement, in which ``{schema}`` is the collection's."""
        return sql.SQL(text).format(schema=sql.Identifier(self.address.schema), **parts)

    @contextmanager
    def reading(self, *, newest: bool = False) -> Iterator[Connection]:
        """One committed state for every read in the block.

        What this client has written, or has seen of the primary, is in it: a replica that has not got it yet is passed
        over for the primary.

        :param newest: of the primary, whatever a replica has.
        """
        with ExitStack() as stack:
            connection = stack.enter_context(self._connection(self._writes if newest else self._reads))
            if newest:
                self._remember(connection)
            elif not self._has_seen(connection):
                connection = stack.enter_context(self._connection(self._writes))
            stack.enter_context(_within(connection, self.named(_READ)))
            yield connection

    @property
    def has_replicas(self) -> bool:
        """Whether reads may be of another server than writes."""
        return self._writes is not self._reads

    def _remember(self, connection: Connection) -> None:
        """Note how far the primary is, of which this connection is."""
        if self.has_replicas:
            row = connection.execute(_WRITTEN).fetchone()
            self._seen = max(self._seen, int(row[0]) if row else 0)

    def _has_seen(self, connection: Connection) -> bool:
        if not self._seen:
            return True
        row = connection.execute(_CAUGHT_UP, (self._seen,)).fetchone()
        return bool(row and row[0])

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, the only one that writes to this collection meanwhile."""
        with self._connection(self._writes) as connection:
            with _within(connection, sql.SQL("BEGIN")):
                connection.execute(f"SET LOCAL lock_timeout = {round(1000 * self.timeout)}")
                connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (self.address.schema,))
                yield connection
            self._remember(connection)

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """A connection to the primary, outside of transactions."""
        with self._connection(self._writes) as connection:
            yield connection

    def retried(self, call: Callable[[], T]) -> T:
        """What a call gives; it is made again, with pauses, while the server is away or takes a transaction back.

        A write may have been done before the connection broke: to do it again must change nothing.
        """
        return retried(call, self.timeout, self._with_reason)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Have an error say why there was no connection, where the block is not tried again."""
        try:
            yield
        except UnavailableError as error:
            raise self._with_reason(error) from error

    def _with_reason(self, error: UnavailableError) -> UnavailableError:
        """An error that says why the server gives no connection: the pool tells its log alone."""
        if not isinstance(error.__cause__, PoolTimeout):
            return error
        reason = f"all {_MOST} of this process are in use"
        try:
            psycopg.connect(self.address.conninfo, connect_timeout=2).close()
        except psycopg.Error as refused:
            reason = one_line(refused)
        return UnavailableError(
            f"{self.address} gave no connection ({reason}). Check the address, that the server runs, and how many "
            "connections it allows."
        )

    @contextmanager
    def _connection(self, pool: ConnectionPool[Connection]) -> Iterator[Connection]:
        with translated(self.address):
            with self._opening:
                if not self._opened:
                    self._reads.open()
                    self._writes.open()
                    self._opened = True
            # not longer: a pool that failed to connect once does not try again for those who wait
            with pool.connection(timeout=min(max(self.timeout, 0.5), _ONE_TRY)) as connection:
                if connection.adapters.types.get("vector") is None:
                    _know_vectors(connection)  # a replica gets the extension later than the primary
                yield connection

    def _configure(self, connection: Connection) -> None:
        # the server's planner takes a disk that turns for granted, and compiles what runs for milliseconds
        connection.execute("SET client_min_messages = warning; SET random_page_cost = 1.1; SET jit = off")
        _know_vectors(connection)


def _know_vectors(connection: Connection) -> None:
    """Let vectors be sent and received, if the database knows what they are."""
    if connection.execute("SELECT 1 FROM pg_type WHERE typname = 'vector'").fetchone():
        register_vector(connection)


def _has_several_hosts(conninfo: str) -> bool:
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:  # who connects is told what is wrong
        return False
    return any("," in str(parts.get(name) or "") for name in ("host", "hostaddr"))


def _of_primary(conninfo: str) -> str:
    """The same servers, of which the one that takes writes is meant."""
    return make_conninfo(conninfo, target_session_attrs="read-write", load_balance_hosts="disable")


@contextmanager
def _within(connection: Connection, begin: sql.SQL | sql.Composed) -> Iterator[None]:
    try:
        connection.execute(begin)
        yield
        connection.execute("COMMIT")
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise


@contextmanager
def translated(address: PgAddress) -> Iterator[None]:
    """Turn PostgreSQL's errors into ours."""
    try:
        yield
    except EncoderToolsError:
        raise
    except psycopg.Error as error:
        raise _translated(address, error) from error


def _translated(address: PgAddress, error: psycopg.Error) -> EncoderToolsError:
    said = one_line(error)
    if isinstance(error, errors.LockNotAvailable):
        return SaveError(f"{address} is locked by another writer. Nothing was written; try again when it has finished.")
    if isinstance(error, (errors.UndefinedTable, errors.InvalidSchemaName)):
        return FileMissingError(f"{address} does not exist. Make the collection with Collection.create.")
    if isinstance(error, (errors.DiskFull, errors.OutOfMemory)):
        return SaveError(f"{address}: the server is out of room ({said}). Nothing was written.")
    if isinstance(error, errors.UntranslatableCharacter) or "\\u0000" in said or "NUL (0x00)" in said:
        return UnstorableError(f"PostgreSQL cannot store the character U+0000 ({said}). Remove it.")
    if isinstance(error, errors.InsufficientPrivilege):
        return SaveError(f"{address}: the user may not do that ({said}). Grant it the right.")
    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    if lost or isinstance(error, _TRANSIENT):
        return UnavailableError(f"{address} ended the connection or a transaction ({said}). Check the server.")
    return SaveError(f"{address} refused a statement ({said}).")
