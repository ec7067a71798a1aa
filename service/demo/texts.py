"""The texts that ship with the package; see ``data/ATTRIBUTION.md`` for authors and licenses."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec

DATA_FOLDER = Path(__file__).parent / "data"
_FILES = ("xquad_corpus", "xquad_queries", "banking77_train", "banking77_test")


class Paragraph(msgspec.Struct, frozen=True):
    """A text to be found."""

    id: str
    text: str


class Question(msgspec.Struct, frozen=True):
    """A question, and the paragraph that answers it."""

    text: str
    doc_id: str


class LabeledText(msgspec.Struct, frozen=True):
    """A bank customer's question and its intent."""

    text: str
    label: str


class DemoCorpus(NamedTuple):
    """All texts of the demonstration."""

    paragraphs: list[Paragraph]
    questions: list[Question]
    train: list[LabeledText]
    test: list[LabeledText]


def read_corpus() -> DemoCorpus:
    """Read the shipped texts: 240 paragraphs, 1,190 questions, 10,003 and 3,080 labeled texts."""
    lines = [gzip.decompress(_path(name).read_bytes()).splitlines() for name in _FILES]
    return DemoCorpus(
        [msgspec.json.decode(line, type=Paragraph) for line in lines[0]],
        [msgspec.json.decode(line, type=Question) for line in lines[1]],
        [msgspec.json.decode(line, type=LabeledText) for line in lines[2]],
        [msgspec.json.decode(line, type=LabeledText) for line in lines[3]],
    )


def corpus_digest() -> str:
    """SHA-256 over the shipped files: what is built from other texts must not be taken for this."""
    digest = hashlib.sha256()
    for name in _FILES:
        digest.update(_path(name).read_bytes())
    return digest.hexdigest()


def _path(name: str) -> Path:
    return DATA_FOLDER / f"{name}.jsonl.gz"
