"""A stranger's folder of files: what is read, what is told, what goes and what moves."""

import json
from pathlib import Path
from typing import Any

import pytest

from encoder_tools.errors import InputError
from index import Chunking, Collection
from index.ingest.add_files import AddOptions, add_files


@pytest.fixture
def counting(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An encoder that tells which documents it has encoded."""
    encode = encoder.encode_document
    encoder.seen = []
    monkeypatch.setattr(encoder, "encode_document", lambda texts: (encoder.seen.extend(texts), encode(texts))[1])
    return encoder


@pytest.fixture
def stored(folder: Path, counting: Any):
    with Collection.create(folder, counting) as made:
        yield made


def add(collection: Collection, files: list[Path], **options: Any) -> list[str]:
    said: list[str] = []
    add_files(collection, collection.folder, files, AddOptions(chunk_tokens=0, **options), said.append)
    return said


def test_single_files_are_as_in_their_folder(stored: Collection, tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("# A\n\nOne text.")
    (docs / "b.txt").write_text("Two texts.")
    add(stored, [docs / "a.md", docs / "b.txt"])
    assert set(stored.ids()) == {"a.md", "b.txt"}
    said = add(stored, [docs])
    assert all("0 stored, 1 unchanged" in line for line in said)
    (tmp_path / "a.md").write_text("Another.")
    with pytest.raises(InputError, match=r"named 'a\.md', which would be their id"):
        add(stored, [docs / "a.md", tmp_path / "a.md"])


def test_a_folder_of_mixed_files_is_told_whole(stored: Collection, tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("a.md", "b.txt", "c.png", "d.png", "e.doc", "f.jsonl", "Makefile"):
        (docs / name).write_text('{"id": 1, "text": "x"}\n' if name == "f.jsonl" else f"text of {name}")
    (docs / "bad.txt").write_bytes(b"\xff\xfe\xff")
    said = add(stored, [docs])
    assert set(stored.ids()) == {"a.md", "b.txt"}
    assert any("1 rejected" in line for line in said)
    (told,) = (line for line in said if "of other kinds" in line)
    assert "5 files of other kinds are not read (2 .png, " in told
    assert all(part in told for part in ("1 .doc", "1 .jsonl", "1 Makefile"))
    assert any("Tables are read when they are named" in line for line in said)


def test_a_bad_row_does_not_stop_a_file_and_is_told_once(stored: Collection, tmp_path: Path):
    (tmp_path / "x.jsonl").write_text(
        '{"id": 1, "text": "a"}\n{"id": 2, "text": "b", "n": NaN}\n{"id": 3, "text": "c"}\n{"id": 4}\n'
    )
    for _ in range(2):
        said = add(stored, [tmp_path / "x.jsonl"])
        assert "2 rejected" in said[0]
        lines = (stored.folder.with_name("collection.rejected.jsonl")).read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == [2, 4]
    assert list(stored.ids()) == [1, 3]


def test_what_has_gone_is_told_or_deleted_and_what_moved_is_not_encoded(
    stored: Collection, counting: Any, tmp_path: Path
):
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("a.md", "b.md", "c.md"):
        (docs / name).write_text(f"text of {name[0]}")
    add(stored, [docs])
    (docs / "a.md").rename(docs / "moved.md")
    (docs / "b.md").unlink()
    said = add(stored, [docs])
    assert any("2 stored text files are in none of these, such as 'a.md'; --sync" in line for line in said)
    assert set(stored.ids()) == {"a.md", "b.md", "c.md", "moved.md"}
    (docs / "c.md").rename(docs / "d.md")
    counting.seen.clear()
    said = add(stored, [docs], sync=True)
    assert counting.seen == []
    assert any("3 documents deleted" in line for line in said)
    assert set(stored.ids()) == {"moved.md", "d.md"}
    assert stored.verify() == 2


def test_a_file_that_cannot_be_read_has_not_gone(stored: Collection, tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("text")
    add(stored, [docs])
    (docs / "a.md").write_bytes(b"\xff")
    add(stored, [docs], sync=True)
    assert list(stored.ids()) == ["a.md"]


def test_rows_that_cannot_be_read_have_not_gone(stored: Collection, tmp_path: Path):
    """Nobody knows their ids: a damaged line must not delete the document that it was."""
    file = tmp_path / "x.jsonl"
    file.write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n')
    add(stored, [file])
    file.write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": \n')
    assert any("nothing is deleted: 1 rows could not be read" in line for line in add(stored, [file], sync=True))
    assert list(stored.ids()) == [1, 2]
    file.write_text('{"id": 1, "text": "a"}\n')
    add(stored, [file], sync=True)
    assert list(stored.ids()) == [1]


def test_other_metadata_are_not_encoded(stored: Collection, counting: Any):
    stored.upsert(["a", "b"], ["red cat", "old town"], [{"n": 1}, {"n": 2}])
    counting.seen.clear()
    stored.upsert(["a", "b"], ["red cat", "new town"], [{"n": 3}, {"n": 4}])
    assert counting.seen == ["new town"]
    counting.seen.clear()
    assert stored.set_metadata(["a", "b"], [{"n": 5}, None]) == 2
    assert counting.seen == []
    assert [document.metadata for document in stored.get(["a", "b"]) if document] == [{"n": 5}, {}]
    assert [hit.id for hit in stored.search("red cat", 1)] == ["a"]
    assert stored.count(where={"n": 5}) == 1
    for ids, metadata, says in (
        (["nowhere"], [{}], "no document 'nowhere'"),
        (["a"], [{"x": {1}}], "JSON"),
        (["a"], [], "one"),
    ):
        with pytest.raises(InputError, match=says):
            stored.set_metadata(ids, metadata)
    assert stored.verify() == 2


@pytest.mark.parametrize("where", [{}, {"$and": []}, {"$not": {"$or": []}}, {"$and": [{}, {"$or": [{}]}]}])
def test_an_empty_filter_deletes_nothing(collection: Collection, where: Any):
    collection.upsert(["a", "b"], ["x", "y"])
    with pytest.raises(InputError, match="no condition"):
        collection.delete(where=where)
    assert collection.count() == 2
    assert collection.delete_all() == 2
    assert collection.verify() == 0
    assert collection.delete_all() == 0


def test_a_piece_is_not_taken_out_of_its_document(folder: Path):
    from encoder_tools import OnnxEncoder

    encoder = OnnxEncoder("default")
    with Collection.create(folder, encoder) as collection:
        text = "The first step is to plug it in. " * 20
        collection.upsert(["b"], [text], [{"lang": "en"}], chunking=Chunking(32, 0))
        count = collection.count()
        with pytest.raises(InputError, match="'b#0' is a piece of the document 'b'"):
            collection.delete(["b#0"])
        with pytest.raises(InputError, match="'b#0' is a piece of the document 'b'"):
            collection.upsert(["b#0"], ["another"])
        assert collection.count() == count > 1
        assert collection.set_metadata(["b"], [{"lang": "fr"}]) == 1
        assert collection.count(where={"lang": "fr"}) == count
        assert [piece.metadata["chunk"] for piece in collection.scan()] == list(range(count))
        assert list(collection.ids()) == ["b"]
        with pytest.raises(InputError, match="which its pieces use"):
            collection.set_metadata(["b"], [{"chunk": 1}])
        assert collection.upsert(["b"], [text], [{"lang": "fr"}], chunking=Chunking(32, 0)) == 0
        assert collection.delete(["b"]) == count
