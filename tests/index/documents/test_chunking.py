"""Documents in pieces: where they are cut, where the pieces are in the source, and what is stored of them."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from encoder_tools import OnnxEncoder
from encoder_tools.errors import InputError
from index import Chunking, Collection, Splitter
from index.documents import chunking
from index.documents.markup import read_markup

ENCODER = OnnxEncoder("default")
SENTENCES = " ".join(f"Sentence number {n} is about topic {n % 7}." for n in range(200))
MARKDOWN = f"""---
title: not a heading
---

# Guide

Some words first.

## Install

{SENTENCES[:900]}

```
# no heading, but code
```

### Linux

Use the package. {SENTENCES[:500]}

Setext
---

{SENTENCES[:600]}
"""
HTML = """<!doctype html><html><head><title>T</title><style>p { color: red }</style></head><body>
<h1>Fish &amp; chips</h1><p>Eat   them
with <b>salt</b> &#38; vinegar.</p><script>var x = "<p>no</p>";</script>
<h2>Costs</h2><table><tr><td>cod</td><td>5</td></tr></table><pre>a  b
 c</pre><p>caf&eacute; &lt;here&gt;<br>next</body></html>"""


def tokens(text: str) -> int:
    tokenizer = Tokenizer.from_file(str(ENCODER.tokenizer_file))
    tokenizer.no_truncation()
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def test_pieces_are_short_enough_end_with_sentences_and_share_what_was_asked():
    chunks = Splitter(Chunking(tokens=60, overlap=20), ENCODER).split(SENTENCES)
    assert len(chunks) > 20
    assert all(chunk.text == SENTENCES[chunk.start : chunk.end] for chunk in chunks)
    assert all(0 < tokens(chunk.text) <= 60 for chunk in chunks)
    assert all(chunk.text.endswith(".") for chunk in chunks)
    for before, after in pairwise(chunks):
        shared = SENTENCES[after.start : before.end]
        assert before.start < after.start < before.end < after.end
        assert 0 < tokens(shared) <= 20
    apart = Splitter(Chunking(tokens=60, overlap=0), ENCODER).split(SENTENCES)
    assert "".join(chunk.text for chunk in apart).replace(" ", "") == SENTENCES.replace(" ", "")


@pytest.mark.parametrize("overlap", [0, 16])
@pytest.mark.parametrize(
    "source", [SENTENCES, SENTENCES.replace("3. ", "3.\n\n"), "x" * 3000 + " y. " * 300, " " * 5000 + "end"]
)
def test_long_texts_are_cut_window_by_window_as_they_would_be_at_once(
    source: str, overlap: int, monkeypatch: pytest.MonkeyPatch
):
    splitter = Splitter(Chunking(tokens=40, overlap=overlap), ENCODER)
    monkeypatch.setattr(chunking, "_WINDOW", 10**9)
    at_once = splitter.split(source)
    monkeypatch.setattr(chunking, "_WINDOW", 700)
    assert splitter.split(source) == at_once


def test_the_time_for_one_long_paragraph_grows_with_its_length_alone():
    splitter = Splitter(Chunking(), ENCODER)
    assert len(splitter.split(SENTENCES * 200)) > 1000  # 1.7 million characters: at once, that takes minutes


def test_a_piece_of_markdown_knows_its_headings_and_no_heading_stands_alone():
    chunks = Splitter(Chunking(tokens=64, overlap=0, kind="markdown"), ENCODER).split(MARKDOWN)
    assert all(chunk.text == MARKDOWN[chunk.start : chunk.end] for chunk in chunks)
    assert all(tokens(chunk.text) <= 64 for chunk in chunks)
    assert not any(re.fullmatch(r"(#+ .*\s*)+|Setext\n-+", chunk.text) for chunk in chunks)
    of = {
        heading: [chunk for chunk in chunks if heading in chunk.headings] for heading in ("Install", "Linux", "Setext")
    }
    assert {chunk.headings for chunk in of["Install"]} == {("Guide", "Install"), ("Guide", "Install", "Linux")}
    assert len(of["Install"]) > 4
    assert of["Install"][0].text.startswith("## Install\n\nSentence number 0")
    assert any("no heading, but code" in chunk.text for chunk in of["Install"])
    assert {chunk.headings for chunk in of["Setext"]} == {("Guide", "Setext")}


def test_html_is_read_as_it_looks_and_pieces_say_where_they_were():
    source_text = read_markup(HTML, "html")
    first = ["Fish & chips", "", "Eat them with salt & vinegar.", "", "", "Costs", "", "cod 5", ""]
    assert source_text.text.split("\n") == [*first, "a  b", " c", "", "café <here>", "next", "", ""]
    assert [(heading.level, heading.title) for heading in source_text.headings] == [(1, "Fish & chips"), (2, "Costs")]
    chunks = Splitter(Chunking(tokens=16, overlap=0, kind="html"), ENCODER).split(HTML)
    first, last = chunks[0], chunks[-1]
    assert HTML[first.start : first.end] == "Fish &amp; chips</h1><p>Eat   them\nwith <b>salt</b> &#38; vinegar."
    assert first.headings == ("Fish & chips",)
    assert last.headings == ("Fish & chips", "Costs")
    assert HTML[last.start : last.end].endswith("next")
    assert all(len(chunk.text) <= chunk.end - chunk.start for chunk in chunks)


@settings(max_examples=150, deadline=None)
@given(
    source=st.text(
        st.sampled_from("ab. \n\t#<>/p-`&;h1é😀\r\x00") | st.characters(exclude_categories=["Cs"]), max_size=300
    ),
    kind=st.sampled_from(["text", "markdown", "html"]),
    overlap=st.sampled_from([0, 4]),
)
def test_whatever_the_source_every_word_of_it_is_in_a_piece(source: str, kind: Any, overlap: int):
    source_text = read_markup(source, kind)
    chunks = Splitter(Chunking(tokens=8, overlap=overlap, kind=kind), ENCODER).split(source)
    assert all(0 <= chunk.start < chunk.end <= len(source) for chunk in chunks)
    assert all(chunk.text.strip() for chunk in chunks)
    if kind != "html":
        assert all(source[chunk.start : chunk.end] == chunk.text for chunk in chunks)
        covered = {place for chunk in chunks for place in range(chunk.start, chunk.end)}
        assert all(letter.isspace() or place in covered for place, letter in enumerate(source))
    elif not overlap:
        words = re.sub(r"\s", "", "".join(chunk.text for chunk in chunks))
        assert words == re.sub(r"\s", "", source_text.text)


@pytest.mark.parametrize(
    "part",
    ["<", "<p>", "&", "<a ", "<!--", "<h1>x", "</h1>", '<a b="', "<a b=' c=\"", "<svg>", "<![CDATA[", "&#9;", "<pre>"],
)
def test_the_time_for_a_hostile_page_grows_with_its_length_alone(part: str):
    source = part * 200_000
    assert len(read_markup(source, "html").text) <= 2 * len(source)  # in more than linear time it takes an hour


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a<!-- <p>no --> b", "a b"),
        ("a <b title='x > y' >bold</b> c", "a bold c"),
        ("1 < 2 && 3 > 2", "1 < 2 && 3 > 2"),
        ("<script>if (a < b) '</p>'</script>seen", "seen"),
        ("<head><title>T</title><body>seen", "seen"),
        ("<svg><svg>no</svg>no</svg>seen", "seen"),
        ("a<?php no ?>b<!doctype x>c</>d", "abcd"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("<textarea> <b> &amp; </textarea>", "<b> & "),
        ("never closed <a href='", "never closed "),
        ("&nbsp;&zzz; &amp &#xZ; &#0;", "&zzz; & &#xZ; \ufffd"),
        ("<PRE>\n x\n</PRE>", "\n x\n\n"),
    ],
)
def test_tags_comments_and_references_as_a_browser_reads_them(source: str, text: str):
    source_text = read_markup(source, "html")
    assert source_text.text == text
    assert source_text.starts is not None
    assert len(source_text.starts) == len(text)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tokens": 7}, "tokens is 7"),
        ({"tokens": 20, "overlap": 11}, "half of them"),
        ({"overlap": -1}, "overlap is -1"),
        ({"kind": "pdf"}, "kind is 'pdf'"),
        ({"tokens": 10_000}, "reads 510 of a document"),
    ],
)
def test_what_cannot_be_cut_so(options: Any, says: str):
    with pytest.raises(InputError, match=says):
        Splitter(Chunking(**options), ENCODER)


def test_an_encoder_without_a_tokenizer_cuts_nothing(collection: Collection):
    with pytest.raises(InputError, match="RoleEncoder has no tokenizer"):
        collection.upsert(["a"], ["text"], chunking=Chunking())


@pytest.fixture
def chunked(tmp_path: Path):
    with Collection.create(tmp_path / "chunked", ENCODER) as made:
        made.upsert(["book", 7, "plain"], [SENTENCES, "A short one.", "No pieces."], chunking=None)
        assert (
            made.upsert(["book", 7], [SENTENCES, "A short one."], [{"lang": "en"}, None], chunking=Chunking(60, 0)) == 2
        )
        yield made


def test_a_document_is_stored_replaced_and_deleted_as_a_whole(chunked: Collection):
    pieces = list(chunked.scan(where={"document": "book"}))
    assert len(pieces) > 10
    assert [piece.id for piece in pieces] == [f"book#{n}" for n in range(len(pieces))]
    assert all(SENTENCES[piece.metadata["start"] : piece.metadata["end"]] == piece.text for piece in pieces)
    assert all(piece.metadata["lang"] == "en" for piece in pieces)
    assert chunked.get(["book", "7#0", "plain"])[0] is None  # its pieces took its place
    assert chunked.count() == len(pieces) + 2
    hits = chunked.search("topic 3", 5, group_by="document")
    assert len({hit.metadata.get("document") for hit in hits}) == len(hits)
    chunked.upsert(["book"], [SENTENCES[:300]], chunking=Chunking(60, 0))
    assert 1 < chunked.count(where={"document": "book"}) < len(pieces)
    assert chunked.delete(["book"]) > 1
    assert [document.id for document in chunked.scan()] == ["plain", "7#0"]
    chunked.upsert([7], ["Whole again."])
    assert [document.id for document in chunked.scan()] == ["plain", 7]
    assert chunked.verify() == 2


def test_only_pieces_that_changed_are_encoded_and_what_is_the_same_is_not_written(
    chunked: Collection, monkeypatch: pytest.MonkeyPatch
):
    seen: list[str] = []
    encode = OnnxEncoder.encode_document

    def spy(self: Any, texts: Any, **options: Any) -> Any:
        seen.extend(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(OnnxEncoder, "encode_document", spy)
    cut = Chunking(60, 0)
    before = {piece.text: hit for piece in chunked.scan(where={"document": "book"}) for hit in [piece.id]}
    documents = ["book", 7], [SENTENCES, "A short one."], [{"lang": "en"}, None]
    assert chunked.upsert(*documents, chunking=cut) == 0
    assert seen == []
    changed = SENTENCES.replace("number 199 is", "number 199 was")
    assert chunked.upsert(["book"], [changed], [{"lang": "en"}], chunking=cut) == 1
    assert len(seen) == 1
    assert "199 was" in seen[0]
    assert chunked.search(seen[0], 1)[0].text == seen[0]
    assert len(before) == chunked.count(where={"document": "book"})
    for piece in chunked.scan():
        assert chunked.search(piece.text, 1)[0].score == pytest.approx(1, abs=2e-3)  # each has its own vector


def test_what_a_piece_cannot_be_stored_as(chunked: Collection):
    cut = Chunking(60, 0)
    everything = list(chunked.scan())
    for ids, texts, metadata, says in [
        (["a", "b"], ["words", " \n "], None, "Document 1, 'b', has no words"),
        (["a"], ["words"], [{"start": 3}], "Metadata 0 has 'start'"),
        (["7"], ["words"], None, "Another document has the id '7#0'"),
        (["a" * 4095], ["words"], None, "takes 4097 bytes"),
        (["a", "a"], ["one", "two"], None, "distinct ids"),
    ]:
        with pytest.raises(InputError, match=says):
            chunked.upsert(ids, texts, metadata, chunking=cut)
    with pytest.raises(InputError, match="chunking is a dict"):
        chunked.upsert(["a"], ["words"], chunking={"tokens": 60})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot come with chunking"):
        chunked.upsert(["a"], ["words"], vectors=[[1.0] * 384], chunking=cut)
    assert list(chunked.scan()) == everything
