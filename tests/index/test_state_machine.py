"""All verbs, in any order, by two openers of one folder, against a dict and a plain product of matrices."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from index import Collection

DIM = 8


class Encoder:
    """Only its name and width are asked for: vectors are always given."""

    dim, fingerprint = DIM, "given"


def vectors_of(ids: list[Any], texts: list[str]) -> Any:
    """A unit vector for each document, of its own."""
    rows = []
    for name, text in zip(ids, texts, strict=True):
        seed = int.from_bytes(hashlib.sha256(f"{name!r} {text}".encode()).digest()[:8], "big")
        rows.append(np.random.default_rng(seed).standard_normal(DIM))
    matrix = np.stack(rows)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


IDS = st.one_of(st.integers(0, 12), st.sampled_from("abcde"))
WORDS = st.lists(st.sampled_from("red blue cat dog".split()), max_size=4).map(" ".join)
DOCUMENTS = st.dictionaries(IDS, st.tuples(WORDS, st.integers(0, 3)), max_size=8)


class Machine(RuleBasedStateMachine):
    """A folder that is written to by whoever is drawn."""

    @initialize()
    def begin(self) -> None:
        self.parent = Path(tempfile.mkdtemp())
        self.folder = self.parent / "c"
        self.truth: dict[Any, tuple[str, int]] = {}
        self.order: list[Any] = []
        self.copies = 0
        Collection.create(self.folder, Encoder()).close()
        self.openers = [Collection.open(self.folder, Encoder()) for _ in range(2)]

    def teardown(self) -> None:
        for opener in getattr(self, "openers", []):
            opener.close()
        shutil.rmtree(getattr(self, "parent", "nowhere"), ignore_errors=True)

    @rule(who=st.integers(0, 1), documents=DOCUMENTS)
    def upsert(self, who: int, documents: dict[Any, tuple[str, int]]) -> None:
        ids = list(documents)
        texts = [documents[name][0] for name in ids]
        metadata = [{"n": documents[name][1]} for name in ids]
        self.openers[who].upsert(ids, texts, metadata, vectors=vectors_of(ids, texts) if ids else None)
        self.truth |= documents
        self.order = [name for name in self.order if name not in documents] + ids

    @rule(who=st.integers(0, 1), ids=st.lists(IDS, unique=True, max_size=6))
    def delete(self, who: int, ids: list[Any]) -> None:
        gone = [name for name in ids if name in self.truth]
        assert self.openers[who].delete(ids) == len(gone)
        self.forget(gone)

    @rule(who=st.integers(0, 1), n=st.integers(0, 3))
    def delete_where(self, who: int, n: int) -> None:
        gone = [name for name, (_, number) in self.truth.items() if number == n]
        assert self.openers[who].delete(where={"n": n}) == len(gone)
        self.forget(gone)

    @rule(who=st.integers(0, 1))
    def open_again(self, who: int) -> None:
        self.openers[who].close()
        self.openers[who] = Collection.open(self.folder, Encoder())

    @rule(who=st.integers(0, 1))
    def go_on_with_the_backup(self, who: int) -> None:
        self.copies += 1
        copy = self.parent / f"copy-{self.copies}"
        self.openers[who].backup(copy)
        for opener in self.openers:
            opener.close()
        Collection.drop(self.folder)
        self.folder = copy
        self.openers = [Collection.open(copy, Encoder()) for _ in range(2)]

    @rule(who=st.integers(0, 1), k=st.integers(1, 9), n=st.one_of(st.none(), st.integers(0, 3)))
    def search(self, who: int, k: int, n: int | None) -> None:
        query = np.ones(DIM) + 0.1 * np.arange(DIM)
        names = [name for name in self.order if n is None or self.truth[name][1] == n]
        scores = vectors_of(names, [self.truth[name][0] for name in names]) @ query if names else np.empty(0)
        best = [names[place] for place in np.argsort(-scores, kind="stable")[:k]]
        found = self.openers[who].search(query, k=k, where=None if n is None else {"n": n})
        assert [hit.id for hit in found] == best
        assert [(hit.text, hit.metadata["n"]) for hit in found] == [self.truth[name] for name in best]

    @rule(who=st.integers(0, 1), words=WORDS)
    def search_words(self, who: int, words: str) -> None:
        found = {hit.id for hit in self.openers[who].search(words, k=99, mode="lexical")}
        assert found == {name for name, (text, _) in self.truth.items() if set(text.split()) & set(words.split())}

    @rule(who=st.integers(0, 1), ids=st.lists(IDS, unique=True, max_size=4))
    def get(self, who: int, ids: list[Any]) -> None:
        found = [None if one is None else (one.text, one.metadata["n"]) for one in self.openers[who].get(ids)]
        assert found == [self.truth.get(name) for name in ids]

    @invariant()
    def all_is_there(self) -> None:
        for opener in getattr(self, "openers", []):
            assert opener.count() == opener.verify() == len(self.truth)
            assert [document.id for document in opener.scan()] == self.order

    def forget(self, gone: list[Any]) -> None:
        self.truth = {name: value for name, value in self.truth.items() if name not in gone}
        self.order = [name for name in self.order if name not in gone]


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCollection = Machine.TestCase
