"""The demonstration's cache: built once, whole or not at all, and built again when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import DebugEncoder

from service.demo import build
from service.demo.build import open_demo
from service.demo.texts import DemoCorpus, LabeledText, Paragraph, Question, read_corpus


@pytest.fixture(autouse=True)
def _few_texts(monkeypatch: pytest.MonkeyPatch):
    labeled = [LabeledText(f"{word} {n}", word) for word in ("card", "rate", "pin") for n in range(8)]
    paragraphs = [Paragraph("a", "the cat sat on the mat"), Paragraph("b", "stocks fell today")]
    few = DemoCorpus(paragraphs, [Question("where sat the cat", "a")], labeled, labeled[::3])
    monkeypatch.setattr(build, "read_corpus", lambda: few)
    monkeypatch.setattr(build, "_MOST_ERRORS", None)  # so few can guarantee nothing


def opened(encoder: DebugEncoder, cache: Path) -> tuple[list[str], int, int]:
    """What was said, and how much was opened."""
    said: list[str] = []
    demo = open_demo(encoder, cache, said.append)
    with demo.collection:
        return said, demo.collection.count(), len(demo.head.labels)


def test_the_shipped_texts_are_complete():
    corpus = read_corpus()
    assert [len(part) for part in corpus] == [240, 1190, 10003, 3080]
    assert {question.doc_id for question in corpus.questions} == {paragraph.id for paragraph in corpus.paragraphs}
    assert len({example.label for example in corpus.train}) == 77


def test_a_second_start_builds_nothing(encoder: DebugEncoder, cache: Path):
    said, texts, labels = opened(encoder, cache)
    assert (len(said) > 0, texts, labels) == (True, 2, 3)
    assert opened(encoder, cache) == ([], 2, 3)


@pytest.mark.parametrize("damaged", ["figures.json", "head/head.safetensors", "head/head.json"])
@pytest.mark.parametrize("content", [None, b"\x00garbage", b"{}"], ids=["missing", "garbage", "empty"])
def test_a_damaged_cache_is_built_again(encoder: DebugEncoder, cache: Path, damaged: str, content: bytes | None):
    opened(encoder, cache)
    file = next(cache.glob(f"demo-*/{damaged}"))
    file.unlink() if content is None else file.write_bytes(content)
    said, texts, labels = opened(encoder, cache)
    assert "built again" in said[0]
    assert (texts, labels) == (2, 3)
    assert opened(encoder, cache)[0] == []


def test_a_damaged_collection_is_built_again(encoder: DebugEncoder, cache: Path):
    opened(encoder, cache)
    for file in next(cache.glob("demo-*/collection")).iterdir():
        file.write_bytes(b"no database at all" * 500)
    assert opened(encoder, cache)[1:] == (2, 3)


def test_another_model_gets_a_cache_of_its_own(encoder: DebugEncoder, cache: Path):
    opened(encoder, cache)
    other = DebugEncoder()
    other.fingerprint = "e" * 32
    assert opened(other, cache)[0]
    assert opened(encoder, cache)[0] == []


def test_an_interrupted_build_leaves_nothing(encoder: DebugEncoder, cache: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> tuple[float, float, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(encoder, cache)
    assert list(cache.iterdir()) == []
