"""PostgreSQL: what is its own. A real server, which is killed too."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, SaveError, UnavailableError
from index import Collection
from index.engines.postgres import pg_schema
from index.engines.postgres.pg_address import PgAddress, redacted
from index.engines.postgres.pg_schema import GRAPH_MEMORY
from index.query.filters import read_filter
from service.cli import cli
from tests.engines.test_contract import fill
from tests.index.conftest import RoleEncoder

psycopg = pytest.importorskip("psycopg")


@pytest.mark.parametrize(
    ("address", "collection"),
    [
        ("postgresql://u:p%40w@host:5433/db?collection=faq&sslmode=require", "faq"),
        ("postgres://host/db?collection=a.b-c_1", "a.b-c_1"),
        ("postgresql:///db?host=/tmp/x&collection=x", "x"),
    ],
)
def test_addresses(address: str, collection: str):
    read = PgAddress.read(address)
    assert read.collection == collection
    assert "collection" not in read.conninfo
    assert psycopg.conninfo.conninfo_to_dict(read.conninfo)["dbname"] == "db"
    assert "p%40w" not in str(read)
    assert "p%40w" not in redacted(address)


@pytest.mark.parametrize(
    "address",
    [
        *("postgresql://host/db", "postgresql://host/db?collection=", "postgresql://host/db?collection=a%22b"),
        *(f"postgresql://host/db?collection={'x' * 41}", "postgresql://h/d?collection=a&collection=b"),
    ],
)
def test_addresses_without_a_collection_are_named(address: str, encoder: Any):
    with pytest.raises(InputError, match="collection=NAME"):
        Collection.open(address, encoder)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://127.0.0.1:1/db?collection=x", "refused"),
        ("postgresql://127.0.0.1:1/db?collection=x&nonsense=1", "nonsense"),
        ("postgresql://nohost.invalid/db?collection=x", "nohost.invalid"),
    ],
)
def test_why_there_is_no_connection_is_said(address: str, says: str, encoder: Any):
    with pytest.raises(UnavailableError, match=says):
        Collection.open(address, encoder, busy_timeout=0.5)


def test_a_missing_extra_is_named(encoder: Any):
    script = (
        "import sys; sys.modules['psycopg'] = None; import importlib.util; find = importlib.util.find_spec\n"
        "import encoder_tools.extras as extras\n"
        "extras.find_spec = lambda name: None if name == 'psycopg' else find(name)\n"
        "from index import Collection; Collection.open('postgresql://h/d?collection=x', None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "MissingExtraError" in done.stderr.splitlines()[-1]
    assert "encoder-tools[postgres]" in done.stderr.splitlines()[-1]


def test_unknown_engines_are_named(encoder: Any):
    with pytest.raises(InputError, match="no engine for addresses mysql://"):
        Collection.open("mysql://host/db", encoder)


def test_what_it_cannot_do_is_an_error_with_the_reason(postgres_address: Callable[[], str], encoder: Any):
    with pytest.raises(InputError, match="float32, float16"):
        Collection.create(postgres_address(), encoder, storage="int8")
    with Collection.create(postgres_address(), encoder) as collection:
        with pytest.raises(InputError, match=r"U\+0000"):
            collection.upsert([1], ["a\0b"])
        with pytest.raises(InputError, match=r"U\+0000"):
            collection.upsert([1], ["a"], [{"x": "a\0b"}])
        with pytest.raises(InputError, match="pg_dump"):
            collection.backup("nowhere")
        with pytest.raises(InputError, match="tokens"):
            collection.search("a", rescore="tokens")
        assert collection.count() == 0


def test_half_precision_compares_with_what_is_stored(postgres_address: Callable[[], str], encoder: Any):
    with Collection.create(postgres_address(), encoder, storage="float16") as collection:
        vectors = fill(collection, 300)
        assert collection.stats().storage == "float16"
        query = vectors[5]
        hit = collection.search(query, 1)[0]
        assert hit.score == pytest.approx(float(vectors[5].astype(np.float16).astype(np.float32) @ query), abs=1e-6)
        assert collection.verify() == 300


def test_a_graph_keeps_the_recall_plain_and_filtered(postgres_address: Callable[[], str], encoder: Any):
    address = postgres_address()
    with Collection.create(address, encoder) as collection:
        vectors = fill(collection, 6000)
    with Collection.open(address, encoder, index="hnsw") as collection:
        assert collection.stats().kind == "flat"
        assert "compact()" in collection.stats().why
        collection.compact()
        stats = collection.stats()
        assert stats.kind == "hnsw"
        assert (stats.recall or 0) >= 0.95
        numbers = np.arange(6000) % 1000
        plans = set()
        for below in (None, 1, 5, 100, 500, 900, 1000):
            shares = []
            for query in np.random.default_rng(2).standard_normal((20, 16)).astype(np.float32):
                scores = np.where(numbers < (1000 if below is None else below), vectors @ query, -99)
                truth = np.argsort(-scores, kind="stable")[:10]
                hits = collection.search(query, 10, where=None if below is None else {"n": {"$lt": below}})
                plans.add(hits.plan.kind if hits.plan else None)
                truth = truth[scores[truth] > -99]
                shares.append(len({hit.id for hit in hits} & set(truth.tolist())) / len(truth))
            assert np.mean(shares) >= 0.95, below
        assert plans == {"exact", "graph"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE {s}.documents SET text = text || '!' WHERE row = 7",
        "UPDATE {s}.documents SET vector = -1 * vector WHERE row = 7",
        "UPDATE {s}.documents SET metadata = '{{}}' WHERE row = 7",
        "DELETE FROM {s}.documents WHERE row = 7",
        "DELETE FROM {s}.postings WHERE row = 7",
        "UPDATE {s}.meta SET value = '1' WHERE key = 'count'",
    ],
)
def test_verify_finds_what_was_changed_behind_its_back(
    postgres_address: Callable[[], str], encoder: Any, server: Any, damage: str
):
    address = postgres_address()
    with Collection.create(address, encoder) as collection:
        fill(collection, 20)
        assert collection.verify() == 20
        damage = damage.replace("-1 * vector", "('[' || repeat('0,', 15) || '1]')::vector")
        with psycopg.connect(server.get_uri()) as connection:
            connection.execute(damage.format(s=f'"{PgAddress.read(address).schema}"'))
        with pytest.raises(FileCorruptError):
            collection.verify()


CLIENT = """
import sys
from index import Collection
from tests.index.conftest import RoleEncoder

address, first = sys.argv[1], int(sys.argv[2])
with Collection.open(address, RoleEncoder(), busy_timeout=30) as collection:
    for number in range(first, first + 10_000):
        ids = [f"k{number}", f"pair{number}", "last"]
        collection.upsert(ids, [f"text {number}", f"text {number}", f"last {number}"], [{"n": number}] * 3)
        print(number, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_clients_are_killed_and_what_they_were_told_is_there(
    postgres_address: Callable[[], str], encoder: Any, seed: int
):
    draw, address, first = random.Random(seed), postgres_address(), 0
    Collection.create(address, encoder).close()
    acknowledged: list[int] = []
    for _ in range(4):
        command = [sys.executable, "-c", CLIENT, address, str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            told = [int(client.stdout.readline())]
            time.sleep(draw.uniform(0, 0.3))
            client.kill()
            told += [int(line) for line in client.stdout.read().split()]
        acknowledged += told
        first = told[-1] + 2  # the one after may be written too
    with Collection.open(address, encoder) as collection:
        stored = {document.id for document in collection.scan()}
        for number in acknowledged:
            assert {f"k{number}", f"pair{number}"} <= stored
        numbers = {one[1:] for one in map(str, stored) if one.startswith("k")}
        assert numbers == {one[4:] for one in map(str, stored) if one.startswith("pair")}  # whole or not at all
        assert len(numbers) <= len(acknowledged) + 4
        assert collection.verify() == len(stored)


def test_the_example_of_the_guide_runs(postgres_address: Callable[[], str]):
    page = (Path(__file__).parents[2] / "docs" / "guides" / "engines.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    script = script.replace("postgresql://user@host/database?collection=faq", postgres_address())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Block a card\n"), done.stderr


def test_fields_of_filters_are_indexed_and_answers_stay_the_same(postgres_address: Callable[[], str], encoder: Any):
    address = postgres_address()
    wheres: list[dict[str, Any]] = [
        {"n": 7},
        {"n": {"$in": [1, 2.0, "x"]}},
        {"n": {"$gt": 990}},
        {"even": True, "n": {"$lt": 10}},
        {"$not": {"n": {"$gt": 5}}},
        {"deep.er": {"$exists": False}},
        {"n": {"$exists": False}},
    ]
    with Collection.create(address, encoder) as collection:
        fill(collection, 3000)
        collection.upsert(["odd"], ["odd"], [{"n": "x" * 20_000, "deep": {"er": [1] * 3000}}])
        before = [sorted(map(str, (hit.id for hit in collection.search("t", 4000, where=one)))) for one in wheres]
        collection.compact()
        after = [sorted(map(str, (hit.id for hit in collection.search("t", 4000, where=one)))) for one in wheres]
        assert after == before
        collection.upsert(["more"], ["more"], [{"n": "y" * 20_000}])  # what is long is no trouble to an index
        with psycopg.connect(PgAddress.read(address).conninfo) as connection:
            query = "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND indexname LIKE 'documents_%%_%%'"
            names = [name for (name,) in connection.execute(query, (PgAddress.read(address).schema,))]
        assert sum(name.startswith("documents_number_") for name in names) == 3


def test_drop_leaves_others_alone(postgres_address: Callable[[], str], encoder: Any):
    first, second = postgres_address(), postgres_address()
    for one in (first, second):
        with Collection.create(one, encoder) as collection:
            collection.upsert([1], ["text"])
    Collection.drop(first)
    with pytest.raises(FileMissingError):
        Collection.open(first, encoder)
    with Collection.open(second, RoleEncoder()) as collection:
        assert collection.count() == 1


def test_advice_says_what_to_do_until_it_is_done(postgres_address: Callable[[], str], encoder: Any):
    address = postgres_address()
    with Collection.create(address, encoder) as collection:
        collection.upsert(list(range(3000)), [f"text {number}" for number in range(3000)])
        assert collection.stats().advice == ()
    with Collection.open(address, encoder, index="hnsw") as collection:
        assert any("there is no graph" in line for line in collection.stats().advice)
        collection.compact()
        assert not any("there is no graph" in line for line in collection.stats().advice)
        with psycopg.connect(PgAddress.read(address).conninfo, autocommit=True) as connection:
            schema = PgAddress.read(address).schema
            connection.execute(f'ALTER TABLE "{schema}".documents SET (autovacuum_enabled = false)')
        assert any("autovacuum is off" in line for line in collection.stats().advice)
        collection.delete(list(range(2000)))
        until = time.monotonic() + 20
        while not any("not yet vacuumed" in line for line in collection.stats().advice):  # statistics come late
            assert time.monotonic() < until
            time.sleep(0.1)
        shown = CliRunner().invoke(cli, ["index", "stats", address]).output
        assert "advice" in shown
        assert "not yet vacuumed" in shown
        collection.search("text", where={"n": 1})
        assert any("1 fields that filters ask for have no index" in line for line in collection.stats().advice)
        collection.compact()
        until = time.monotonic() + 20
        while any("not yet" in line or "no index" in line for line in collection.stats().advice):
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_graph_is_built_in_memory_where_there_is_some(postgres_address: Callable[[], str], encoder: Any):
    address = postgres_address()
    with Collection.create(address, encoder) as collection:
        collection.upsert(list(range(300)), [f"text {number}" for number in range(300)])
    with Collection.open(address, encoder, index="hnsw") as collection:
        database = collection.opened.database  # type: ignore[attr-defined]
        with database.alone() as connection:
            (before,) = connection.execute("SHOW maintenance_work_mem").fetchone()
            connection.execute(GRAPH_MEMORY, (2**40,))
            same = "SELECT current_setting('maintenance_work_mem') = current_setting('shared_buffers')"
            assert connection.execute(same).fetchone() == (True,)
            connection.execute("RESET maintenance_work_mem")
            connection.execute(GRAPH_MEMORY, (1,))
            assert connection.execute("SHOW maintenance_work_mem").fetchone() == (before,)
        collection.compact()
        for _ in range(3):  # whichever connection of the pool
            with database.alone() as connection:
                assert connection.execute("SHOW maintenance_work_mem").fetchone() == (before,)


def test_tables_of_an_older_format_are_brought_to_this_one_once(
    postgres_address: Callable[[], str], encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    address = postgres_address()
    with Collection.create(address, encoder) as collection:
        collection.upsert([1], ["text"])
    monkeypatch.setattr(pg_schema, "FORMAT_VERSION", 3)
    with pytest.raises(FileCorruptError, match="format version '1'"):
        Collection.open(address, encoder)  # nothing leads from there to here
    steps = {
        1: "ALTER TABLE {schema}.documents ADD COLUMN one integer",
        2: "CREATE TABLE {schema}.broken (row no_type)",
    }
    monkeypatch.setattr(pg_schema, "OLDER", steps)
    with pytest.raises(SaveError, match="no_type"):
        Collection.open(address, encoder)
    steps[2] = "CREATE TABLE {schema}.two (row integer)"  # the first step was taken back with the second
    clients = [threading.Thread(target=lambda: Collection.open(address, encoder).close()) for _ in range(3)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    with Collection.open(address, encoder) as collection:
        assert collection.verify() == 1
        collection.upsert([2], ["more"])
        assert collection.search("more", 1, mode="hybrid")[0].id == 2


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_hybrid_search_is_one_statement(postgres_address: Callable[[], str], encoder: Any, index: Any):
    address = postgres_address()
    Collection.create(address, encoder).close()
    with Collection.open(address, encoder, index=index) as collection:
        fill(collection, 500)
        collection.compact()
        with collection.opened.read_view() as view:
            vectors = encoder.encode_query(["text 8", "nothing here", ""])
            texts = ["text 8", "nothing here", ""]
            for mask in (None, view.mask(read_filter({"n": {"$lt": 400}}))):
                both = view.hybrid(vectors, texts, 20, 30, mask)
                for (dense, words), vector, text in zip(both, vectors, texts, strict=True):
                    (alone,) = view.nearest(vector[None], 20, mask)
                    assert dense[1] == pytest.approx(alone[1], abs=1e-6)
                    assert words[0].tolist() == view.lexical(text, 30, mask)[0].tolist()
        executed: list[str] = []
        execute = psycopg.Connection.execute
        with pytest.MonkeyPatch.context() as watch:
            watch.setattr(
                psycopg.Connection,
                "execute",
                lambda self, query, *rest, **more: (executed.append(str(query)), execute(self, query, *rest, **more))[
                    1
                ],
            )
            collection.search("text 8", 5, mode="hybrid")
        assert sum("postings" in query for query in executed) == 1
        assert any("postings" in query and "vector" in query for query in executed)
