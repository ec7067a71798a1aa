"""Copies between engines: equal, resumed, and made while the source is in use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from encoder_tools.errors import FileCorruptError, InputError
from index import Chunking, Collection
from index.engines.copying import copy_collection
from service.cli import cli
from tests.engines.test_contract import Counting, fill
from tests.index.conftest import RoleEncoder

PAIRS = [("folder", "postgresql"), ("postgresql", "folder"), ("postgresql", "postgresql"), ("folder", "folder")]
PAIRS += [("folder", "milvus"), ("milvus", "postgresql")]


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str, str], Any]:
    def of(engine: str, name: str) -> Any:
        if engine == "folder":
            return tmp_path / name
        return request.getfixturevalue("milvus_address" if engine == "milvus" else "postgres_address")()

    return of


def filled(address: Any) -> Collection:
    """Documents, chunks, both kinds of ids, and rows that were written again."""
    encoder = Counting(dim=16)
    collection = Collection.create(address, encoder)
    fill(collection, 1200)
    text = "\n\n".join(f"Paragraph {number} speaks of item{number} alone." for number in range(700))
    collection.upsert(["long", "short"], [text, "One."], [{"a": 1.5}, None], chunking=Chunking(tokens=16, overlap=0))
    collection.upsert(["3", "é"], ["text", ""], [{"x": [1, None]}, {}])
    collection.upsert([5], ["written again"], [{"n": 2**60}])
    collection.delete([7])
    return collection


def assert_equal(one: Collection, other: Collection) -> None:
    documents = {document.id: document for document in one.scan()}
    assert {document.id: document for document in other.scan()} == documents
    names = list(documents)
    for vector, same in zip(one.vectors(names), other.vectors(names), strict=True):
        assert np.array_equal(vector, same)
    assert set(one.ids()) == set(other.ids())
    for options in ({}, {"mode": "lexical"}, {"mode": "hybrid", "where": {"n": {"$lt": 100}}}):
        expected = one.search("text 8 item17", 10, **options)  # type: ignore[arg-type]
        hits = other.search("text 8 item17", 10, **options)  # type: ignore[arg-type]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_copy_is_equal_and_a_second_one_writes_nothing(place: Any, first: str, second: str):
    source_address, target_address = place(first, "source"), str(place(second, "target"))
    with filled(source_address) as source:
        copied = copy_collection(source, target_address)
        assert copied.documents == copied.written == source.count()
        assert copied.exact
        assert copy_collection(source, target_address)[1:] == (source.count(), 0, 0, True)
        with Collection.open(target_address, Counting(dim=16)) as target:
            assert target.verify() == source.count()
            assert_equal(source, target)
            hit = target.search("item17", 1, mode="lexical")[0]
            assert target.delete([hit.metadata["document"]]) > 100  # chunks know their document


@pytest.mark.parametrize(("first", "second"), [*PAIRS[:2], *PAIRS[-2:]])
def test_an_interrupted_copy_resumes(place: Any, first: str, second: str):
    target = str(place(second, "target"))

    class Interrupted(Exception):  # noqa: N818
        pass

    def progress(done: int, _count: int) -> None:
        if done >= 1000:
            raise Interrupted

    with filled(place(first, "source")) as source:
        with pytest.raises(Interrupted):
            copy_collection(source, target, progress=progress)
        source.upsert([1], ["changed meanwhile"])
        source.delete([2])
        copied = copy_collection(source, target)
        assert copied.written < source.count() - 900
        assert copied.deleted == 1
        with Collection.open(target, Counting(dim=16)) as other:
            assert_equal(source, other)


@pytest.mark.parametrize(("first", "second"), [*PAIRS[:2], *PAIRS[-2:]])
def test_what_is_written_meanwhile_is_caught_up_with(place: Any, first: str, second: str):
    address, target = place(first, "source"), str(place(second, "target"))
    with filled(address) as source:
        stop = threading.Event()

        def write() -> None:
            with Collection.open(address, Counting(dim=16), busy_timeout=30) as own:
                for number in range(40):
                    if stop.is_set():
                        break
                    own.upsert([number, f"new{number}"], [f"again {number}", f"new {number}"])
                    own.delete([number + 100])

        thread = threading.Thread(target=write)
        thread.start()
        try:
            copy_collection(source, target)
        finally:
            stop.set()
            thread.join()
        copy_collection(source, target)
        with Collection.open(target, Counting(dim=16)) as other:
            assert_equal(source, other)


def test_a_coarser_precision_is_stated(place: Any):
    with filled(place("folder", "source")) as source:
        target = str(place("postgresql", "target"))
        copied = copy_collection(source, target, storage="float16")
        assert not copied.exact
        with Collection.open(target, None) as other:
            (vector,), (exact,) = other.vectors(["3"]), source.vectors(["3"])
            assert vector is not None
            assert np.array_equal(vector, exact.astype(np.float16).astype(np.float32))  # type: ignore[union-attr]
        assert copy_collection(source, target).written == 0


def test_another_models_target_is_refused(place: Any, encoder: Any):
    with filled(place("folder", "source")) as source:
        target = place("postgresql", "target")
        Collection.create(target, RoleEncoder(dim=16, fingerprint="another")).close()
        with pytest.raises(InputError, match="another") as refused:
            copy_collection(source, f"{target}&password=secret")
        assert "secret" not in str(refused.value)


def test_a_target_that_is_changed_at_the_end_is_told(place: Any, monkeypatch: pytest.MonkeyPatch):
    from index.engines import copying

    target = str(place("postgresql", "target"))
    before = copying._Copy.compared

    def disturbed(self: Any) -> int:
        with Collection.open(target, Counting(dim=16)) as other:
            other.upsert([1], ["disturbed"])
        return before(self)

    monkeypatch.setattr(copying._Copy, "compared", disturbed)
    with filled(place("folder", "source")) as source, pytest.raises(FileCorruptError, match="does not have 1 as"):
        copy_collection(source, target)


def test_the_command_and_others_take_addresses(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    address = place("postgresql", "target")
    (tmp_path / "rows.csv").write_text("id,text,lang\n1,block my card,en\n2,Karte sperren,de\n3,,en\n")

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["index", *arguments])
        assert done.exit_code == code, done.output
        return done.output

    assert "2 stored, 0 unchanged, 1 rejected" in run("build", address, "rows.csv")
    assert list(tmp_path.glob("c*.rejected.jsonl"))
    assert "1" in run("search", address, "lost card", "-k", "1", "--where", '{"lang": "en"}')
    assert "hnsw" in run("stats", address) or "flat" in run("stats", address)
    assert "2 documents, 2 written" in run("copy", address, "copied")
    assert "2 documents" in run("verify", "copied")
    assert "2 documents" in run("verify", address)
