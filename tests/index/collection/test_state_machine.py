"""All verbs, in any order, by two openers of one folder, against a dict and a plain product of matrices."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from encoder_tools import OnnxEncoder
from encoder_tools.errors import FingerprintError
from index import Chunking, Collection, Splitter

DIM = 8


class Encoder:
    """A vector for each text, of its own."""

    dim, document_room = DIM, None
    tokenizer_file = OnnxEncoder("default").tokenizer_file

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def encode_document(self, texts: Any) -> Any:
        seeds = [
            int.from_bytes(hashlib.sha256(f"{self.fingerprint} {text}".encode()).digest()[:8], "big") for text in texts
        ]
        matrix = np.stack([np.random.default_rng(seed).standard_normal(DIM) for seed in seeds])
        return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)

    encode_query = encode = encode_document


IDS = st.one_of(st.integers(0, 12), st.sampled_from("abcde"))
WORDS = st.lists(st.sampled_from("red blue cat dog".split()), max_size=4).map(" ".join)
DOCUMENTS = st.dictionaries(IDS, st.tuples(WORDS, st.integers(0, 3)), max_size=8)


class Machine(RuleBasedStateMachine):
    """A folder that is written to by whoever is drawn."""

    truth: dict[Any, tuple[str, int, Any]]
    """By id: the text, a number, and the document that it is a piece of, if it is one."""

    @initialize()
    def begin(self) -> None:
        self.parent = Path(tempfile.mkdtemp())
        self.folder = self.parent / "c"
        self.truth = {}
        self.order: list[Any] = []
        self.copies = 0
        self.models = 0
        self.encoder = Encoder("model 0")
        Collection.create(self.folder, self.encoder).close()
        self.openers = [Collection.open(self.folder, self.encoder) for _ in range(2)]

    def teardown(self) -> None:
        for opener in getattr(self, "openers", []):
            opener.close()
        shutil.rmtree(getattr(self, "parent", "nowhere"), ignore_errors=True)

    @rule(who=st.integers(0, 1), documents=DOCUMENTS, given=st.booleans())
    def upsert(self, who: int, documents: dict[Any, tuple[str, int]], given: bool) -> None:
        ids = list(documents)
        texts = [f"{words} id{name!r}" for name, (words, _) in documents.items()]  # no two are the same
        metadata = [{"n": number} for _, number in documents.values()]
        vectors = self.encoder.encode_document(texts) if given and ids else None
        assert self.openers[who].upsert(ids, texts, metadata, vectors=vectors) == len(ids)
        self.forget(ids)
        self.truth |= {name: (text, documents[name][1], None) for name, text in zip(ids, texts, strict=True)}
        self.order += ids

    @rule(who=st.integers(0, 1), documents=DOCUMENTS)
    def upsert_in_pieces(self, who: int, documents: dict[Any, tuple[str, int]]) -> None:
        ids = [name for name in documents if isinstance(name, str)]  # 1 and "1" would have pieces of the same names
        texts = [f"{documents[name][0]} id{name!r}. " + " ".join(f"{n} of {name}." for n in range(20)) for name in ids]
        cut = Chunking(20, 4)
        self.openers[who].upsert(ids, texts, [{"n": documents[name][1]} for name in ids], chunking=cut)
        for name, text in zip(ids, texts, strict=True):
            pieces = Splitter(cut, self.encoder).split(text)
            made = {f"{name}#{n}": (piece.text, documents[name][1], name) for n, piece in enumerate(pieces)}
            assert len(made) > 3
            if made != {key: value for key, value in self.truth.items() if value[2] == name}:
                self.forget([name])
                self.truth |= made
                self.order += list(made)

    @rule(who=st.integers(0, 1))
    def another_model(self, who: int) -> None:
        self.models += 1
        self.encoder = Encoder(f"model {self.models}")
        self.openers[who].reembed(self.encoder)
        with pytest.raises(FingerprintError):
            self.openers[1 - who].search(np.ones(DIM))
        self.open_again(1 - who)

    @rule(who=st.integers(0, 1), ids=st.lists(IDS, unique=True, max_size=6))
    def delete(self, who: int, ids: list[Any]) -> None:
        gone = [name for name, (_, _, source) in self.truth.items() if name in ids or source in ids]
        assert self.openers[who].delete(ids) == len(gone)
        self.forget(gone)

    @rule(who=st.integers(0, 1), n=st.integers(0, 3))
    def delete_where(self, who: int, n: int) -> None:
        gone = [name for name, (_, number, _) in self.truth.items() if number == n]
        assert self.openers[who].delete(where={"n": n}) == len(gone)
        self.forget(gone)

    @rule(who=st.integers(0, 1))
    def open_again(self, who: int) -> None:
        self.openers[who].close()
        self.openers[who] = Collection.open(self.folder, self.encoder)

    @rule(who=st.integers(0, 1))
    def go_on_with_the_backup(self, who: int) -> None:
        self.copies += 1
        copy = self.parent / f"copy-{self.copies}"
        self.openers[who].backup(copy)
        for opener in self.openers:
            opener.close()
        Collection.drop(self.folder)
        self.folder = copy
        self.openers = [Collection.open(copy, self.encoder) for _ in range(2)]

    @rule(who=st.integers(0, 1), k=st.integers(1, 9), n=st.one_of(st.none(), st.integers(0, 3)))
    def search(self, who: int, k: int, n: int | None) -> None:
        query = np.ones(DIM) + 0.1 * np.arange(DIM)
        names = [name for name in self.order if n is None or self.truth[name][1] == n]
        texts = [self.truth[name][0] for name in names]
        scores = self.encoder.encode_document(texts) @ query if names else np.empty(0)
        best = [names[place] for place in np.argsort(-scores, kind="stable")[:k]]
        found = self.openers[who].search(query, k=k, where=None if n is None else {"n": n})
        assert [hit.id for hit in found] == best
        assert [(hit.text, hit.metadata["n"]) for hit in found] == [self.truth[name][:2] for name in best]

    @rule(who=st.integers(0, 1), words=WORDS)
    def search_words(self, who: int, words: str) -> None:
        found = {hit.id for hit in self.openers[who].search(words, k=99, mode="lexical")}
        assert found == {name for name, (text, *_) in self.truth.items() if set(text.split()) & set(words.split())}

    @rule(who=st.integers(0, 1), ids=st.lists(IDS, unique=True, max_size=4))
    def get(self, who: int, ids: list[Any]) -> None:
        found = [None if one is None else (one.text, one.metadata["n"]) for one in self.openers[who].get(ids)]
        assert found == [self.truth[name][:2] if name in self.truth else None for name in ids]

    @invariant()
    def all_is_there(self) -> None:
        for opener in getattr(self, "openers", []):
            assert opener.count() == opener.verify() == len(self.truth)
            assert [document.id for document in opener.scan()] == self.order

    def forget(self, gone: list[Any]) -> None:
        """Documents, and those that are pieces of them."""
        self.truth = {name: value for name, value in self.truth.items() if name not in gone and value[2] not in gone}
        self.order = [name for name in self.order if name in self.truth]


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCollection = Machine.TestCase
