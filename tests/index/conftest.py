import hashlib

import numpy as np
import pytest

from index import Collection


class RoleEncoder:
    """Unit sums of one fixed random vector per word; only the query role understands "query: "."""

    def __init__(self, dim=16, fingerprint="roles"):
        self.dim, self.fingerprint = dim, fingerprint

    def encode_document(self, texts):
        return np.stack([self._vector(text.split()) for text in texts])

    def encode_query(self, texts):
        return np.stack([self._vector(text.removeprefix("query: ").split()) for text in texts])

    encode = encode_document

    def _vector(self, words):
        seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") for word in ["<s>", *words]]
        total = sum(np.random.default_rng(seed).standard_normal(self.dim) for seed in seeds)
        return (total / np.linalg.norm(total)).astype(np.float32)


@pytest.fixture
def encoder():
    return RoleEncoder()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "collection"


@pytest.fixture
def collection(folder, encoder):
    with Collection.create(folder, encoder) as made:
        yield made
