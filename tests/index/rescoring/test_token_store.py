import sqlite3
from pathlib import Path

import numpy as np
import pytest

from index.rescoring.token_store import NAME, TokenStore, key_of


def codes(number: int):
    return np.full((3, 4), number, dtype=np.uint8)


@pytest.fixture
def store(tmp_path: Path):
    made = TokenStore(tmp_path)
    made.put({key_of(text, "model"): codes(number) for number, text in enumerate("abc")})
    return made


def test_what_is_kept_comes_back_in_every_process(store: TokenStore, tmp_path: Path):
    found = TokenStore(tmp_path).get([key_of("b", "model"), key_of("missing", "model")])
    assert {key: one.tolist() for key, one in found.items()} == {key_of("b", "model"): codes(1).tolist()}


def test_a_text_of_another_model_is_another(store: TokenStore):
    long = "f" * 64
    assert len({key_of("a", long), key_of("a", f"{long}:qint8"), key_of(f"{long}a", ""), key_of("a", "model")}) == 4
    assert store.get([key_of("a", "other")]) == {}


def test_a_damaged_line_counts_as_none(store: TokenStore, tmp_path: Path):
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("UPDATE codes SET data = zeroblob(12) WHERE key = ?", [key_of("b", "model")])
        connection.execute("UPDATE codes SET width = 5 WHERE key = ?", [key_of("c", "model")])
    assert [*store.get([key_of(text, "model") for text in "abc"])] == [key_of("a", "model")]


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100, b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_file_is_made_anew(store: TokenStore, tmp_path: Path, damage: bytes):
    (tmp_path / NAME).write_bytes(damage)
    assert store.get([key_of("a", "model")]) == {}
    store.put({key_of("a", "model"): codes(7)})
    if damage and not store.get([key_of("a", "model")]):  # the first write found out
        store.put({key_of("a", "model"): codes(7)})
    assert [one.tolist() for one in store.get([key_of("a", "model")]).values()] == [codes(7).tolist()]


def test_a_file_of_another_version_is_made_anew(store: TokenStore, tmp_path: Path):
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert store.get([key_of("a", "model")]) == {}
    store.put({key_of("a", "model"): codes(7)})
    assert len(store.get([key_of("a", "model")])) == 1


def test_a_folder_that_cannot_be_written_to_keeps_nothing(tmp_path: Path):
    store = TokenStore(tmp_path / "missing")
    store.put({key_of("a", "model"): codes(1)})
    assert store.get([key_of("a", "model")]) == {}


def test_what_is_of_other_texts_is_forgotten(store: TokenStore):
    assert store.prune([key_of("a", "model"), key_of("new", "model")]) == 2
    assert [*store.get([key_of(text, "model") for text in "abc"])] == [key_of("a", "model")]
