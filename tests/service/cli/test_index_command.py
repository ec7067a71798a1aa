"""`encoder-tools index`: from files to a collection that is searched, cut down, checked, copied and written out."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from encoder_tools import OnnxEncoder
from encoder_tools.io.parquet_writer import write_parquet
from index import Collection
from index.storage import shadow_vectors as generations
from index.storage.schema import About
from service.cli import cli

ROWS = [
    {"id": "cat", "text": "The cat sat on the mat.", "lang": "en", "n": 1},
    {"id": 7, "text": "Stocks fell sharply on Monday.", "lang": "en", "n": 2},
    {"text": "Le chat dort.", "lang": "fr", "n": None},
]
BAD = [{"id": "x"}, {"id": "y", "text": " "}, {"id": [1], "text": "list"}, {"id": "z", "text": 5}]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps(row) + "\n" for row in [*ROWS[:2], *BAD, ROWS[2]])
    (tmp_path / "rows.jsonl").write_text(lines)
    return tmp_path


def run(*arguments: Any, fails: str = "") -> Result:
    done = CliRunner().invoke(cli, ["index", *map(str, arguments)])
    if fails:
        assert done.exit_code != 0
        assert fails in str(done.exception) + done.output
    else:
        assert done.exception is None, done.output
    return done


def test_the_road_from_a_file_to_a_search(here: Path):
    built = run("build", "c", "rows.jsonl").output
    assert "rows.jsonl: 3 stored, 0 unchanged, 4 rejected, see c.rejected.jsonl" in built
    assert "c: 3 documents" in built
    aside = [json.loads(line) for line in (here / "c.rejected.jsonl").read_text().splitlines()]
    assert [row["row"] for row in aside] == [3, 4, 5, 6]
    assert "no column 'text'" in aside[0]["reason"]
    assert aside[3]["data"] == BAD[3]
    found = run("search", "c", "Where is the kitty?", "-k", "1").output
    assert found.endswith("  cat  The cat sat on the mat.\n")
    hit = json.loads(run("search", "c", "chat", "--mode", "lexical", "--json").output)
    assert (hit["id"], hit["metadata"]) == ("rows.jsonl:7", {"lang": "fr"})
    hybrid = run("search", "c", "cat", "--mode", "hybrid", "--where", '{"lang": "en"}').output
    assert len(hybrid.splitlines()) == 2
    stats = run("stats", "c").output
    assert "documents    3" in stats
    assert "index        flat: index is 'auto', and 3 documents are searched exactly" in stats
    assert "searched exactly" in run("compact", "c").output
    assert OnnxEncoder("default").fingerprint in stats
    assert "3 documents, all whole" in run("verify", "c").output
    run("backup", "c", "copy")
    assert "2 documents deleted, 1 left" in run("delete", "c", "--id", "7", "--id", "cat", "--id", "nowhere").output
    assert "1 documents deleted, 0 left" in run("delete", "c", "--where", '{"lang": "fr"}').output
    run("export", "copy", "out.jsonl")
    run("build", "again", "out.jsonl")
    run("export", "copy", "out.parquet", "--where", '{"lang": "en"}')
    run("build", "half", "out.parquet")
    with Collection.open("copy", None) as one, Collection.open("again", None) as other:
        assert list(one.scan()) == list(other.scan())
    with Collection.open("half", None) as collection:
        assert {(document.id, document.text) for document in collection.scan()} == {
            (str(row["id"]), row["text"]) for row in ROWS[:2]
        }


def test_building_again_encodes_only_what_is_new(here: Path, monkeypatch: pytest.MonkeyPatch):
    run("build", "c", "rows.jsonl")
    seen: list[str] = []
    encode = OnnxEncoder.encode_document

    def spy(self: Any, texts: Any, *rest: Any, **options: Any) -> Any:
        seen.extend(texts)
        return encode(self, texts, *rest, **options)

    monkeypatch.setattr(OnnxEncoder, "encode_document", spy)
    with (here / "rows.jsonl").open("a") as file:
        file.write('{"id": "new", "text": "A new one."}\n{"id": "new", "text": "A newer one."}\n')
    assert "2 stored, 3 unchanged" in run("build", "c", "rows.jsonl").output
    assert seen == ["A new one.", "A newer one."]
    with Collection.open("c", None) as collection:
        assert collection.get(["new"])[0].text == "A newer one."


def test_other_columns_and_kinds_of_file(here: Path):
    with gzip.open("a.csv.gz", "wt") as file:
        file.write('key,body,keep,drop\n1,"two\nlines, quoted",yes,no\n')
    run("build", "c", "a.csv.gz", "--text", "body", "--id", "key", "--keep", "keep")
    with Collection.open("c", None) as collection:
        assert [tuple(one) for one in collection.scan()] == [("1", "two\nlines, quoted", {"keep": "yes"})]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build", "c", "nowhere.jsonl"], "does not exist"),
        (["build", "c", "bad.xyz"], "no known kind"),
        (["search", "nowhere", "x"], "not a folder"),
        (["search", "full", "x", "--where", "{"], "--where is not JSON"),
        (["search", "full", "x", "--where", '{"f": {"$like": 1}}'], "expected one of"),
        (["delete", "full"], "one of them"),
        (["delete", "full", "--id", "a", "--where", "{}"], "one of them"),
        (["verify", "."], "does not exist"),
        (["backup", "full", "full"], "not empty"),
    ],
)
def test_what_cannot_be_is_one_clear_error(here: Path, arguments: list[str], says: str):
    (here / "bad.xyz").write_text("x")
    run("build", "full", "rows.jsonl")
    run(*arguments, fails=says)


def test_a_long_text_is_shown_from_where_it_has_the_words(here: Path):
    """And the words are bold on a terminal."""
    long = {"id": "long", "text": "word " * 200 + "then a heron\nand a crane; " + "word " * 200}
    unbroken = {"id": "unbroken", "text": "x" * 500 + "-heron"}
    (here / "rows.jsonl").write_text(json.dumps(long) + "\n" + json.dumps(unbroken) + "\n")
    run("build", "c", "rows.jsonl")
    command = ["index", "search", "c", "heron, crane", "--mode", "lexical"]
    shown = CliRunner().invoke(cli, command, color=True).output.splitlines()[::-1]
    assert "  long  ... word word word" in shown[0]
    assert "word then a \x1b[1mheron\x1b[0m and a \x1b[1mcrane\x1b[0m; word" in shown[0]
    assert shown[1].endswith("  unbroken  " + "x" * 160)


def test_searches_rank_again_by_stored_token_vectors(here: Path):
    run("build", "c", "rows.jsonl")
    assert "of 3 texts are stored" in run("prepare-rescoring", "c").output
    hits = [
        json.loads(line) for line in run("search", "c", "heron", "--rescore", "tokens", "--json").output.splitlines()
    ]
    assert len(hits) == 3
    assert {hit["parts"][-1][0] for hit in hits} == {"tokens"}
    run("search", "c", "heron", "-k", "51", "--rescore", "tokens", fails="first 50 hits")


def test_a_folder_of_text_files_is_stored_in_pieces_and_goes_on_where_it_was_cut(here: Path):
    docs = here / "docs"
    (docs / "deep" / ".hidden").mkdir(parents=True)
    (docs / "guide.md").write_text(
        "# Guide\n\n" + "The first step is to plug it in. " * 60 + "\n\n## Mend\n\nUse glue.\n"
    )
    (docs / "deep" / "page.HTML").write_text("<h1>Fees</h1><p>Late books cost a penny &amp; a smile.")
    (docs / "deep" / ".hidden" / "no.txt").write_text("Nobody reads this.")
    (docs / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (docs / "empty.txt").write_text("  \n")
    (docs / "code.py").write_text("pass")
    (docs / "link.txt").symlink_to(here / "rows.jsonl")
    built = run("build", "c", "docs", "--chunk-tokens", "64").output
    assert "docs (markdown): 1 stored, 0 unchanged\n" in built
    assert "docs (html): 1 stored" in built
    assert "docs (text): 0 stored, 0 unchanged, 2 rejected" in built
    aside = [json.loads(line) for line in (here / "c.rejected.jsonl").read_text().splitlines()]
    assert "bad.txt cannot be read as UTF-8" in aside[0]["reason"]
    assert "empty" in aside[1]["reason"]
    with Collection.open("c", None) as collection:
        assert {piece.metadata["document"] for piece in collection.scan()} == {"guide.md", "deep/page.HTML"}
        assert collection.count(where={"document": "guide.md"}) > 5
        assert collection.count(where={"headings": {"$contains": "Mend"}}) >= 1
    hit = json.loads(run("search", "c", "how much is a fine?", "-k", "1", "--json").output)
    assert (hit["id"], hit["text"]) == ("deep/page.HTML#0", "Fees\n\nLate books cost a penny & a smile.")
    assert "docs (markdown): 0 stored, 1 unchanged\n" in run("add", "c", "docs", "--chunk-tokens", "64").output
    assert "documents deleted, 1 left" in run("delete", "c", "--id", "guide.md").output


def test_a_dataset_with_a_card_is_no_folder_of_texts(here: Path):
    (here / "set").mkdir()
    (here / "set" / "README.md").write_text("# The card\n\nSays what is in it.")
    write_parquet(here / "set" / "train-0.parquet", lambda: ROWS)
    assert "set: 3 stored" in run("build", "c", "set").output
    with Collection.open("c", None) as collection:
        assert {document.text for document in collection.scan()} == {row["text"] for row in ROWS}


def test_rows_in_pieces_and_a_collection_that_must_be_there(here: Path):
    (here / "long.jsonl").write_text(json.dumps({"id": "l", "text": "One more sentence. " * 40, "lang": "en"}) + "\n")
    run("add", "c", "long.jsonl", fails="not a folder")
    run("build", "c", "long.jsonl", "--chunk-tokens", "40", "--overlap", "10")
    with Collection.open("c", None) as collection:
        first, *rest = collection.scan()
        assert len(rest) > 2
        assert first.metadata == {"lang": "en", "document": "l", "chunk": 0, "start": 0, "end": first.metadata["end"]}


def test_another_model_for_all_that_is_stored(here: Path):
    class Earlier:
        dim, fingerprint = 8, "earlier"

        def encode(self, texts: Any) -> Any:
            return np.ones((len(texts), 8), dtype=np.float32)

        encode_document = encode_query = encode

    with Collection.create("c", Earlier()) as collection:
        collection.upsert([str(row.get("id")) for row in ROWS], [row["text"] for row in ROWS])
        next_model = About(384, "elsewhere", "elsewhere")
        with collection.opened.database.writing() as connection:
            generations.begin(connection, next_model)
    assert "re-embedding 0 of 3 re-embedded with model elsewhere" in run("stats", "c").output
    run("reembed", "c", fails="is being re-embedded with model elsewhere")
    own = OnnxEncoder("default").fingerprint
    assert f"c: 3 documents, from model earlier to {own}" in run("reembed", "c", "--restart").output
    assert "  cat  The cat sat" in run("search", "c", "where is the kitty?", "-k", "1").output
    assert "coming" not in run("stats", "c").output
    run("reembed", "c", fails="are of model")
