"""Milvus: what is its own. Milvus Lite as a real server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, SaveError
from index import Collection
from tests.engines.test_contract import TEXTS, fill
from tests.index.conftest import RoleEncoder
from tests.waiting import until

pytest.importorskip("pymilvus")

from index.engines.milvus import mv_lock, mv_rows, mv_state, mv_words, mv_writes
from index.engines.milvus.mv_address import MvAddress
from index.engines.milvus.mv_connection import MvDatabase

NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("milvus://h?collection=a", ("http://h:19530", "", "", "a")),
        ("milvus://u:p%40x@h:1/db?collection=a.b", ("http://h:1", "u:p@x", "db", "a.b")),
        ("https://h?collection=a&token=k", ("https://h:443", "k", "", "a")),
        ("milvus://[::1]:7?collection=a", ("http://[::1]:7", "", "", "a")),
    ],
)
def test_addresses(address: str, read: Any):
    made = MvAddress.read(address)
    assert (made.uri, made.token, made.database, made.collection) == read
    assert "p@x" not in str(made)
    assert "k" not in str(made).partition("collection")[0] or "k" not in read[1]


@pytest.mark.parametrize(
    "address",
    [
        "milvus://h",
        "milvus://?collection=a",
        "milvus://h?collection=",
        "milvus://h?collection=a&collection=b",
        "milvus://h?collection=a&other=1",
        "milvus://u:secret@h?collection=a&token=secret",
        "milvus://h:port?collection=a",
        "milvus://h:99999?collection=a",
        "milvus://h?collection=a b",
        "milvus://[h?collection=a",
        "milvus://h?collection",
    ],
)
def test_addresses_that_cannot_be_read(address: str):
    with pytest.raises(InputError) as refused:
        Collection.open(address, None)
    assert "secret" not in str(refused.value)


def test_no_two_names_are_one_in_milvus():
    names = ["a", "a_g1", "a.g1", "a-g1", "a_5f", "A", "a_session", "a__", "a.", "a-"]
    prefixes = [MvAddress.read(f"milvus://h?collection={name}").prefix for name in names]
    assert len(set(prefixes)) == len(names)
    for one in prefixes:
        for other in prefixes:
            assert not other.startswith((f"{one}_g", f"{one}_session_", f"{one}_writer", f"{one}_takeover_"))


@given(NUMBERS, NUMBERS)
def test_numbers_are_texts_in_their_order(one: float, other: float):
    first, second = str(mv_rows.ordered(one)), str(mv_rows.ordered(other))
    assert (first < second) == (one < other)
    assert (first == second) == (one == other)
    assert first.isascii()


@given(st.text(), st.text())
def test_strings_are_texts_in_their_order(one: str, other: str):
    first, second = str(mv_rows.ordered(one)), str(mv_rows.ordered(other))
    assert (first < second) == (one < other)
    assert first.isalnum()


@pytest.mark.parametrize(
    ("texts", "metadata", "said"),
    [
        (["x" * 65_536], None, "Text 0 has 65536 bytes"),
        (["ok", "é" * 32_768], None, "Text 1 has 65536 bytes"),
        ([" ".join(f"w{number}" for number in range(5000))], None, "different words"),
        (["x"], [{"a": "x" * 40_000}], "Metadata 0 has strings"),
        (["x"], [{"a": "x" * 70_000}], "Metadata 0 has 70"),
    ],
)
def test_what_milvus_cannot_store_is_said_before_it_is_written(
    milvus_address: Callable[[], str], encoder: Any, texts: list[str], metadata: Any, said: str
):
    with Collection.create(milvus_address(), encoder) as collection:
        collection.upsert([0], ["kept"])
        with pytest.raises(InputError, match=said):
            collection.upsert(list(range(len(texts))), texts, metadata)
        if metadata:
            with pytest.raises(InputError, match=said):
                collection.set_metadata([0], metadata)
        assert [(one.text, one.metadata) for one in collection.scan()] == [("kept", {})]
        collection.upsert([1], ["x" * 65_535], [{"a": "x" * 30_000}])
        assert collection.verify() == 2


def test_what_milvus_does_not_do_is_an_error_with_the_reason(
    milvus_address: Callable[[], str], encoder: Any, tmp_path: Path
):
    address = milvus_address()
    with pytest.raises(InputError, match="codes"):
        Collection.create(address, encoder, storage="int8")
    with Collection.create(address, encoder, storage="float16") as collection:
        collection.upsert([1], ["text"])
        with pytest.raises(InputError, match="milvus-backup"):
            collection.backup(tmp_path / "b")
        with pytest.raises(InputError, match="no vectors of tokens"):
            _ = collection.opened.tokens
        (vector,) = collection.vectors([1])
        exact = encoder.encode_document(["text"])[0]
        assert vector is not None
        assert np.array_equal(vector, exact.astype(np.float16).astype(np.float32))
    with pytest.raises(InputError, match="expected auto, flat or hnsw"):
        Collection.open(address, encoder, index="ivf")


def test_a_dead_writer_of_another_machine_is_taken_over_when_its_time_is_up(
    milvus_address: Callable[[], str], encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mv_lock, "LEASE", 1.0)
    address = milvus_address()
    with Collection.create(address, encoder, busy_timeout=0.2) as collection:
        collection.upsert(["a", "b"], ["first", "second"])
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(mv_lock, "_process", lambda: "elsewhere")
            dead = Collection.open(address, encoder)
        writer = dead.opened._writer  # type: ignore[attr-defined]

        def dies() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(writer.lock, "check", dies)
        monkeypatch.setattr(writer.lock, "_clean", dies)
        with pytest.raises(KeyboardInterrupt):
            dead.upsert(["a", "c"], ["never", "seen"])
        begun = time.monotonic()
        assert [one.text for one in collection.scan()] == ["first", "second"]
        collection.upsert(["d"], ["after"])
        assert time.monotonic() - begun > 0.9
        assert [one.text for one in collection.scan()] == ["first", "second", "after"]
        assert collection.verify() == 3
        database = collection.opened.database  # type: ignore[attr-defined]
        assert database.count(database.name("g1"), "row >= 0") == 3  # nothing of the dead one's is left


@pytest.mark.parametrize("machine", ["this", "another"])
def test_who_takes_over_may_die_too(
    milvus_address: Callable[[], str], encoder: Any, monkeypatch: pytest.MonkeyPatch, machine: str
):
    monkeypatch.setattr(mv_lock, "LEASE", 0.3)
    monkeypatch.setattr(mv_lock, "_LATE", 0.0)
    address = milvus_address()
    Collection.create(address, encoder).close()
    database = MvDatabase(MvAddress.read(address), 5.0)
    process = mv_lock._process() if machine == "this" else "elsewhere"
    first, second = (database.name(f"session_1_{process}_4194304_{number}") for number in range(2))  # no such process
    for name in (first, second):
        database.call("create_collection", name, dimension=2)
    database.call("create_alias", first, database.name("writer"))
    with Collection.open(address, encoder) as collection:
        lock = collection.opened._writer.lock  # type: ignore[attr-defined]
        database.call("create_alias", second, lock._takeover(lock._alias, first))
        collection.upsert([1], ["text"])
        assert collection.verify() == 1
        collection.upsert([2], ["text"])
        collection.compact()
        names = database.call("list_collections")
        assert first not in names
        assert second not in names
    Collection.drop(address)
    assert not [name for name in database.call("list_collections") if name.startswith(database.name())]
    database.close()


def test_a_process_that_ended_is_gone_even_if_its_parent_does_not_ask():
    def session(number: int) -> str:
        return f"encoder_tools_c_session_1_{mv_lock._process()}_{number}_0123abcd"

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert not mv_lock._is_gone(session(child.pid))
        child.kill()
        until(lambda: mv_lock._is_gone(session(child.pid)))  # a zombie
    assert mv_lock._is_gone(session(child.pid))
    assert not mv_lock._is_gone(f"encoder_tools_c_session_1_{'0' * 16}_{child.pid}_0123abcd")


def test_a_writer_that_was_taken_for_dead_writes_nothing(
    milvus_address: Callable[[], str], encoder: Any, monkeypatch: Any
):
    address = milvus_address()
    with Collection.create(address, encoder, busy_timeout=5) as slow, Collection.open(address, encoder) as other:
        lock = slow.opened._writer.lock  # type: ignore[attr-defined]
        check, turns = lock.check, list[int]()

        def late() -> None:
            if not turns:
                turns.append(1)
                database = slow.opened.database  # type: ignore[attr-defined]
                database.call("drop_alias", database.name("writer"))  # as who takes over does
                other.upsert(["other"], ["written meanwhile"])
            check()

        monkeypatch.setattr(lock, "check", late)
        slow.upsert(["slow"], ["written late"])
        assert turns
        assert [one.id for one in slow.scan()] == ["other", "slow"]
        assert slow.verify() == 2


def test_a_write_that_lost_its_turn_leaves_the_others_alone(
    milvus_address: Callable[[], str], encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    address = milvus_address()
    with Collection.create(address, encoder) as slow, Collection.open(address, encoder, busy_timeout=0.1) as other:
        slow.upsert(["first"], ["text"])
        lock = slow.opened._writer.lock  # type: ignore[attr-defined]
        holding = other.opened._writer.lock.held()  # type: ignore[attr-defined]

        def late() -> None:
            database = slow.opened.database  # type: ignore[attr-defined]
            database.call("drop_alias", database.name("writer"))  # as who takes over does
            holding.__enter__()
            thread.start()
            monkeypatch.setattr(lock, "check", check)
            check()

        check = lock.check
        monkeypatch.setattr(lock, "check", late)
        monkeypatch.setattr(lock, "_clean", lambda: pytest.fail("it cleans up beside another writer"))
        slow.opened.database.timeout = 60  # type: ignore[attr-defined]
        thread = threading.Timer(1.0, lambda: holding.__exit__(None, None, None))
        slow.upsert(["slow"], ["written late"])  # in a turn of its own
        thread.join()
        assert slow.verify() == 2


def test_a_client_whose_own_collection_was_removed_makes_it_again(milvus_address: Callable[[], str], encoder: Any):
    with Collection.create(milvus_address(), encoder) as collection:
        collection.upsert([1], ["text"])
        database, lock = collection.opened.database, collection.opened._writer.lock  # type: ignore[attr-defined]
        database.call("drop_collection", lock._own)
        collection.upsert([2], ["text"])
        assert collection.verify() == 2


def test_gaps_between_rows_do_not_end_what_fills_a_new_generation(milvus_address: Callable[[], str], encoder: Any):
    address = milvus_address()
    with Collection.create(address, encoder) as collection:
        fill(collection, 1200)
        collection.delete([one for one in range(1200) if one % 100])
        collection.upsert(list(range(2000, 2030)), ["more"] * 30)
        collection.reembed(RoleEncoder(dim=8, fingerprint="new"))
        assert collection.verify() == 42
        collection.upsert(list(range(3000)), ["again"] * 3000)
        collection.delete([one for one in range(3000) if one % 1000])
        assert any("that are gone" in line for line in collection.stats().advice)
        collection.compact()
        assert collection.stats().advice == ()
        assert collection.verify() == 3


@pytest.mark.parametrize("text", ["a\0b", "\0", "\\ \" ' %_ {x} \n\t", "\u2028"])
def test_any_character_comes_back(milvus_address: Callable[[], str], encoder: Any, text: str):
    with Collection.create(milvus_address(), encoder) as collection:
        collection.upsert([text], [text], [{text: text, "list": [text]}])
        assert [tuple(one) for one in collection.scan()] == [(text, text, {text: text, "list": [text]})]
        assert collection.get([text])[0] is not None
        for where in ({text.replace(".", "\\."): text}, {"list": {"$contains": text}}, {text: {"$gte": text}}):
            assert collection.count(where=where) == 1
        assert collection.delete([text]) == 1


def test_many_clients_take_turns_after_one_died(milvus_address: Callable[[], str], encoder: Any):
    address = milvus_address()
    Collection.create(address, encoder).close()
    script = (
        "import sys, os\nfrom index import Collection\nfrom tests.index.conftest import RoleEncoder\n"
        "one = Collection.open(sys.argv[1], RoleEncoder())\n"
        "one.opened._writer.lock.check = lambda: os._exit(7)\n"
        "one.upsert(['dead'], ['never seen'])\n"
    )
    dead = subprocess.run([sys.executable, "-c", script, address], cwd=Path(__file__).parents[2])
    assert dead.returncode == 7
    errors: list[Exception] = []

    def work(name: str) -> None:
        try:
            with Collection.open(address, encoder, busy_timeout=60) as own:
                for number in range(5):
                    own.upsert([f"{name}{number}"], [f"{name} {number}"])
        except Exception as error:  # noqa: BLE001 - the test is told
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcde"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Collection.open(address, encoder) as collection:
        assert collection.count() == collection.verify() == 25
        collection.compact()  # which removes what is left of clients that died
        database = collection.opened.database  # type: ignore[attr-defined]
        assert not [name for name in database.call("list_collections") if name.startswith(database.name("session"))]


def test_lines_that_are_gone_are_removed_and_readers_of_before_are_told(
    milvus_address: Callable[[], str], encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mv_writes, "_DEAD_LEAST", 10)
    monkeypatch.setattr(mv_writes, "_READ_FOR", -1.0)
    monkeypatch.setattr(mv_state, "_MARKED", 0.0)
    with Collection.create(milvus_address(), encoder) as collection:
        database = collection.opened.database  # type: ignore[attr-defined]
        for turn in range(6):
            collection.upsert(list(range(20)), [f"text {number} of {turn}" for number in range(20)])
        assert database.count(database.name("g1"), "row >= 0") < 80
        assert collection.verify() == 20
        with collection.opened.reading() as before:
            rows = list(before.rows_of("row >= 0"))  # type: ignore[attr-defined]
            for turn in range(4):
                collection.upsert(list(range(20)), [f"text {number} again {turn}" for number in range(20)])
            with pytest.raises(OSError, match="while it was read for long"):
                before.by_rows(rows)
        assert collection.search("text 3 again 3", 1, mode="lexical")[0].id == 3


@pytest.mark.parametrize("dimensions", [mv_rows._DIMENSIONS, 3])
@pytest.mark.parametrize("drift", [0.1, 1.0, 10.0])
def test_words_are_ranked_exactly_whatever_the_weights_are_of(
    milvus_address: Callable[[], str],
    tmp_path: Path,
    encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
    dimensions: int,
    drift: float,
):
    monkeypatch.setattr(mv_rows, "_DIMENSIONS", dimensions)  # many words then share one
    monkeypatch.setattr(mv_words, "_SPARE", 0)
    draw = np.random.default_rng(3)
    vocabulary = [f"w{number}" for number in range(60)] + list("京都東大阪")
    texts = ["".join(f"{word} " for word in draw.choice(vocabulary, int(size))) for size in draw.integers(1, 40, 250)]
    with Collection.create(milvus_address(), encoder) as collection, Collection.create(tmp_path / "r", encoder) as same:
        same.upsert(list(range(250)), texts)
        collection.upsert(["first"], ["word " * max(1, int(20 * drift))])  # its length is what weights are made by
        collection.upsert(list(range(250)), texts)
        collection.delete(["first"])
        for query in ("w1", "w1 w2 w3 w1", "京", "w5 阪 none", "w1 " * 3 + " ".join(vocabulary)):
            for options in ({}, {"where": {"$text": "w7"}}):
                for k in (1, 5, 60, 300):
                    hits, expected = (
                        one.search(query, k, mode="lexical", **options)  # type: ignore[arg-type]
                        for one in (collection, same)
                    )
                    assert [hit.id for hit in hits] == [hit.id for hit in expected]
                    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], rel=1e-6)


def test_where_candidates_end_all_are_scored(
    milvus_address: Callable[[], str], encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mv_words, "MOST_LINES", 20)
    monkeypatch.setattr(mv_words, "_SPARE", 0)
    with Collection.create(milvus_address(), encoder) as collection:
        collection.upsert(list(range(200)), ["the same words"] * 200)
        for k in (5, 19, 50):
            assert [hit.id for hit in collection.search("words", k, mode="lexical")] == list(range(k))


def test_a_graph_is_built_beside_writes_and_measured(milvus_address: Callable[[], str], encoder: Any):
    address = milvus_address()
    Collection.create(address, encoder).close()
    with Collection.open(address, encoder, index="hnsw", busy_timeout=60) as collection:
        vectors = fill(collection, 1500)
        assert collection.stats().kind == "flat"
        assert any("no graph" in line for line in collection.stats().advice)
        done = threading.Event()

        def write() -> None:
            with Collection.open(address, encoder, busy_timeout=60) as own:
                number = 0
                while not done.is_set():
                    own.upsert([f"w{number % 7}", number], [f"written {number}", f"text {number}"], vectors=vectors[:2])
                    own.delete([number + 100])
                    number += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            collection.compact()
        finally:
            done.set()
            thread.join()
        stats = collection.stats()
        assert (stats.kind, stats.advice) == ("hnsw", ())
        assert stats.recall is not None
        assert stats.recall >= 0.95
        assert collection.verify() == collection.count()
        hits = collection.search(vectors[777], 10)
        assert hits.plan is not None
        assert hits.plan.kind == "graph"
        assert hits[0].id == 777
        documents = {one.id: one.text for one in collection.scan()}
        assert documents["w3"].startswith("written")
        few = collection.search(vectors[777], 10, where={"n": {"$lt": 3}})
        assert {hit.metadata["n"] for hit in few} <= {0, 1, 2}
        database = collection.opened.database  # type: ignore[attr-defined]
        kept = [one for one in database.call("list_collections") if one.startswith(database.name("g"))]
        assert kept == [database.name("g2")]


def test_two_clients_compact_at_once(milvus_address: Callable[[], str], encoder: Any):
    address = milvus_address()
    Collection.create(address, encoder).close()
    errors: list[Exception] = []

    def compact() -> None:
        try:
            with Collection.open(address, encoder, index="hnsw", busy_timeout=60) as own:
                own.compact()
        except Exception as error:  # noqa: BLE001 - the test is told
            errors.append(error)

    with Collection.open(address, encoder, index="hnsw", busy_timeout=60) as collection:
        fill(collection, 1200)
        threads = [threading.Thread(target=compact) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert collection.stats().kind == "hnsw"
        assert collection.verify() == 1200
        database = collection.opened.database  # type: ignore[attr-defined]
        assert len([one for one in database.call("list_collections") if one.startswith(database.name("g"))]) == 1


def test_weights_are_made_anew_when_texts_have_another_length(milvus_address: Callable[[], str], encoder: Any):
    with Collection.create(milvus_address(), encoder) as collection:
        collection.upsert([1], ["word"])
        collection.upsert([2, 3], ["several words " * 20, "other words " * 30])
        assert any("weights are of texts with 1" in line for line in collection.stats().advice)
        before = collection.search("words", 3, mode="lexical")
        collection.compact()
        assert collection.stats().advice == ()
        assert collection.search("words", 3, mode="lexical") == before
        assert collection.verify() == 3


@pytest.mark.parametrize("field", ["text", "metadata", "vector", "tokens", "removed"])
def test_damage_is_noticed(milvus_address: Callable[[], str], encoder: Any, field: str):
    with Collection.create(milvus_address(), encoder) as collection:
        collection.upsert([*TEXTS], [*TEXTS.values()], [{"n": 1}] * len(TEXTS))
        database: MvDatabase = collection.opened.database  # type: ignore[attr-defined]
        lines = database.name("g1")
        (line,) = database.query(lines, "row == 2", mv_writes.LINE)
        worse = {"text": "other", "metadata": "{}", "vector": [1.0] + [0.0] * 15, "tokens": [], "removed": 1}[field]
        database.write(lines, [{**line, field: worse}])
        with pytest.raises(FileCorruptError):
            collection.verify()


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"version": 2}', "null", '{"version": 1}', "1"])
def test_a_state_that_cannot_be_read_is_one_clear_error(milvus_address: Callable[[], str], encoder: Any, value: str):
    address = milvus_address()
    with Collection.create(address, encoder) as collection:
        database = collection.opened.database  # type: ignore[attr-defined]
        database.write(database.name(), [{"key": "state", "value": value, "vector": [0.0, 0.0]}])
    with pytest.raises(FileCorruptError, match="upgrade encoder-tools"):
        Collection.open(address, encoder)


def test_drop_leaves_others_alone_and_nothing_behind(milvus_address: Callable[[], str], encoder: Any):
    first = milvus_address()
    second = first + "_g1"
    for one in (first, second):
        with Collection.create(one, encoder) as collection:
            collection.upsert([1], ["text"])
    database = MvDatabase(MvAddress.read(first), 5.0)
    Collection.drop(first)
    names = database.call("list_collections")
    assert not [name for name in names if name == database.name() or name.startswith(database.name("g"))]
    with pytest.raises(FileMissingError):
        Collection.open(first, encoder)
    with Collection.open(second, RoleEncoder()) as collection:
        assert collection.count() == 1
    database.close()


def test_a_busy_collection_is_said_to_be(milvus_address: Callable[[], str], encoder: Any):
    address = milvus_address()
    with (
        Collection.create(address, encoder) as collection,
        Collection.open(address, encoder, busy_timeout=0.3) as other,
    ):
        other.upsert([1], ["own collection made"])
        stop, holding = threading.Event(), threading.Event()

        def hold() -> None:
            lock = collection.opened._writer.lock  # type: ignore[attr-defined]
            with lock.held():
                holding.set()
                while not stop.wait(0.05):
                    lock._beaten = 0.0
                    lock.beat()

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            assert holding.wait(60)
            with pytest.raises(SaveError, match="locked by another writer"):
                other.upsert([2], ["text"])
        finally:
            stop.set()
            thread.join()
        other.upsert([2], ["text"])
