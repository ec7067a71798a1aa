"""Source code is cut between its definitions, and each chunk says in which of them it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from encoder_tools import OnnxEncoder
from encoder_tools.errors import MissingExtraError
from index import Chunking, Collection, Splitter
from index.documents import source_code
from index.documents.source_code import CODE_KINDS, read_code
from index.ingest.add_files import AddOptions, add_files

SOURCES = {
    "bash": ("greet() {\n  echo hi\n}\n", ["greet"]),
    "c": ("struct point { int x; };\nint *area(struct point p) { return 0; }\n", ["point", "area"]),
    "cpp": ("namespace geo { class Shape { public: double area() { return 1; } }; }\n", ["geo", "Shape", "area"]),
    "csharp": ("class Shop { void Open() { } }\n", ["Shop", "Open"]),
    "go": ("package a\ntype Shop struct { n int }\nfunc (s Shop) Open() {}\n", ["Shop", "Open"]),
    "java": ("class Shop { void open() { } }\n", ["Shop", "open"]),
    "javascript": ("class Shop { open() { } }\nfunction close() {}\n", ["Shop", "open", "close"]),
    "php": ("<?php class Shop { function open() { } }\n", ["Shop", "open"]),
    "python": ("class Shop:\n    def open(self):\n        pass\n\nasync def close(): ...\n", ["Shop", "open", "close"]),
    "ruby": ("module Town\n  class Shop\n    def open; end\n  end\nend\n", ["Town", "Shop", "open"]),
    "rust": ("struct Shop;\nimpl Shop { fn open(&self) {} }\n", ["Shop", "Shop", "open"]),
    "tsx": ("interface Props { a: string }\nfunction View() { return <b/>; }\n", ["Props", "View"]),
    "typescript": ("interface Shop { n: number }\nclass Small { open() {} }\n", ["Shop", "Small", "open"]),
}


@pytest.fixture(scope="module")
def encoder():
    return OnnxEncoder()


def test_each_language_is_tried():
    assert SOURCES.keys() == set(CODE_KINDS)


@pytest.mark.parametrize("kind", SOURCES)
def test_definitions_are_found_by_name(kind: str):
    source, names = SOURCES[kind]
    text = read_code(source, kind)
    assert text.text == source
    titled = [heading.title.partition("(")[0] for heading in text.headings]
    assert [name for name in titled if name in names] == names


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("damage", ["", "}}}} @@ \x00", "ü𝒳 ", "(" * 3000])
def test_any_text_is_cut_without_a_loss(kind: str, damage: str, encoder: Any):
    source = damage + SOURCES[kind][0] * 40 + damage
    chunks = Splitter(Chunking(tokens=40, overlap=0, kind=kind), encoder).split(source)  # type: ignore[arg-type]
    for chunk in chunks:
        assert source[chunk.start : chunk.end] == chunk.text
    covered = "".join(chunk.text for chunk in chunks)
    assert "".join(covered.split()) == "".join(source.split())


def test_a_chunk_says_in_which_class_and_function_it_begins(encoder: Any):
    methods = [
        f"    def step_{number}(self, value):\n        total = value * {number}\n"
        + f"        return total + sum(range({number}))\n"
        for number in range(6)
    ]
    source = "LIMIT = 10\n\n\nclass Größe:\n" + "\n".join(methods) + "\n\nAFTER = [1, 2, 3] + [LIMIT]\n" * 12
    chunks = Splitter(Chunking(tokens=48, overlap=0, kind="python"), encoder).split(source)
    starts = {chunk.headings for chunk in chunks}
    assert ("Größe", "step_3") in starts
    assert ("Größe", "step_5") in starts
    for chunk in chunks:
        if chunk.text.lstrip().startswith("AFTER"):
            assert chunk.headings == ()


def test_folders_are_read_with_their_code_if_that_is_asked_for(tmp_path: Path, encoder: Any):
    source = tmp_path / "source"
    (source / "pkg").mkdir(parents=True)
    (source / "pkg" / "shop.py").write_text("class Shop:\n    def open(self):\n        return 'bakery opens at dawn'\n")
    (source / "notes.md").write_text("# Notes\n\nNothing here.\n")
    log: list[str] = []
    with Collection.create(tmp_path / "c", encoder) as collection:
        add_files(collection, tmp_path / "c", [source], AddOptions(), log.append)
        assert list(collection.ids()) == ["notes.md"]
        add_files(collection, tmp_path / "c", [source], AddOptions(code=True), log.append)
        (hit,) = collection.search("when does the bakery open", 1)
        assert hit.metadata["document"] == "pkg/shop.py"
        assert hit.metadata["headings"] == ["Shop"]
        add_files(collection, tmp_path / "c", [source / "pkg" / "shop.py"], AddOptions(code=True), log.append)
        assert set(collection.ids()) == {"notes.md", "pkg/shop.py", "shop.py"}
        (source / "pkg" / "shop.py").unlink()
        add_files(collection, tmp_path / "c", [source], AddOptions(code=True, sync=True), log.append)
        assert set(collection.ids()) == {"notes.md"}


def test_a_missing_grammar_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(source_code._LANGUAGES, "python", source_code._Language(".py", "tree_sitter_nothing"))
    with pytest.raises(MissingExtraError, match=r"encoder-tools\[code\]"):
        read_code("x = 1", "python")
