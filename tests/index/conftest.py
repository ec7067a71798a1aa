import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Collection


@cache
def word_vector(word: str, dim: int):
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dim)


class RoleEncoder:
    """Unit sums of one fixed random vector per word; only the query role understands "query: "."""

    def __init__(self, dim: int = 16, fingerprint: str = "roles") -> None:
        self.dim, self.fingerprint = dim, fingerprint

    def encode_document(self, texts: Any):
        return np.stack([self._vector(text.split()) for text in texts])

    def encode_query(self, texts: Any):
        return np.stack([self._vector(text.removeprefix("query: ").split()) for text in texts])

    encode = encode_document

    def _vector(self, words: Sequence[str]):
        total = np.sum([word_vector(word, self.dim) for word in ["<s>", *words]], axis=0)
        return (total / np.linalg.norm(total)).astype(np.float32)


@pytest.fixture
def encoder():
    return RoleEncoder()


@pytest.fixture
def folder(tmp_path: Path):
    return tmp_path / "collection"


@pytest.fixture
def collection(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as made:
        yield made
