import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from head_files import rows, run, write_csv

from encoder_tools import OnnxEncoder
from heads import LinearHead


@cache
def word_vector(word: str, dim: int):
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dim)


class WordEncoder:
    """Unit sums of one fixed random vector per word: a real encoder, small and deterministic."""

    def __init__(self, dim: int = 32, fingerprint: str = "words-32") -> None:
        self.dim, self.fingerprint = dim, fingerprint

    def encode(self, texts: Any):
        return np.stack([self._vector(text) for text in texts])

    encode_query = encode_document = encode

    def __deepcopy__(self, memo: Any) -> None:
        raise TypeError("like an ONNX session, this cannot be copied")

    def _vector(self, text: str):
        words = ["<s>", *text.lower().split()]
        total = np.sum([word_vector(word, self.dim) for word in words], axis=0)
        return (total / np.linalg.norm(total)).astype(np.float32)


COLORS, ANIMALS, PLACES = "red green blue pink", "cat dog horse goat", "paris rome oslo lima"


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture
def labeled():
    """Texts and labels of three classes, told apart by one word."""
    groups = {"colour": COLORS, "animal": ANIMALS, "place": PLACES}
    pairs = [(f"the {w} {i}", name) for name, words in groups.items() for i, w in enumerate(words.split() * 5)]
    return [text for text, _ in pairs], [label for _, label in pairs]


@pytest.fixture
def head(encoder: Any, labeled: tuple[list[str], list[str]]):
    return LinearHead(encoder).fit(*labeled)


@pytest.fixture(scope="session")
def encoder_default():
    """The model that ships."""
    return OnnxEncoder("default")


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory):
    """The folder of a head that was fitted by the command line, and what that said."""
    folder = tmp_path_factory.mktemp("head")
    train = write_csv(folder / "train.csv", [*rows(), {"text": "", "label": "card"}, {"text": "no label", "label": ""}])
    result = run(
        "head",
        "fit",
        train,
        folder / "head",
        "--max-error-rate",
        "0.2",
        "--held-out",
        write_csv(folder / "held.csv", rows()),
    )
    assert result.exit_code == 0, result.output
    return folder, result.output
