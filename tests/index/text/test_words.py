"""Words: whatever is stored is found as it is spelled, in every script, by search, filter and highlighting alike."""

import gzip
import json
import logging
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder_tools.errors import InputError, SaveError
from index import Collection
from index.storage.fts_rebuild import bring_up_to_date
from index.text.words import Aligned, Words, normalized

SHARED = Path(__file__).parents[3].parent / "shared"
SENTENCES = {
    "ru": "Ещё новый чайник стоит на столе, и мой ёжик его боится.",
    "uk": "Київ — столиця України, її ґанок і м’який об'єкт.",
    "el": "Η Ελλάδα έχει μία τράπεζα· ο άνθρωπος πήγε ΤΑΞΊΔΙ με τους φίλους.",
    "ar": "القرآن والمَدْرَسَة في إيران، أهلاً وسهلاً يا سُؤال ـــ مؤمن.",
    "he": 'שָׁלוֹם עולם, צה"ל ומנכ״ל הלכו ל־ירושלים.',
    "hi": "हिन्दी विकिपीडिया में ज़रूर क़लम और प्रश्न हैं।",
    "bn": "বাংলা ভাষা ও কোলকাতা, ড়ঢ়য় এবং প্রশ্ন।",
    "ja": "データベースを検索エンジンで検索する。ｶﾞｽ ガス パン はんだ 東京都",
    "zh": "我們的向量数据库可以搜索中文，也可以搜索英文GPU文档。",
    "th": "สวัสดีชาวโลก ภาษาไทยไม่มีช่องว่าง น้ำทำที่",
    "ko": "고양이가 데이터베이스에서 잔다. 한국어",
    "de": "Größe, Straße, Übermut und E-Mail-Adresse; ÄÖÜ ẞ.",
    "fr": "L’été, l'œuvre d'Éloïse à Noël; aujourd'hui ça.",
    "es": "¿Dónde está el niño? Pingüino, corazón.",
    "pt": "Não há coração nem maçã à mão.",
    "it": "Perché l'università è così; un po' più.",
    "vi": "Tiếng Việt: đường phố, nước mắm, Nguyễn.",
    "tr": "İstanbul'da ışık, ISPARTA, ığdır, şöför çiğ.",
    "km": "ភាសាខ្មែរ សួស្តី\u200bពិភពលោក",
    "my": "မြန်မာဘာသာ စကား",
    "fa": "می‌خواهم کتاب‌ها را بخوانم",
    "code": "user_id, CamelCase C# C++ F# v1.2.3 e-mail ann.lee@x.org HTTPServer x86_64 __init__ main.py .NET U.S.A.",
    "odd": "soft\u00adhyphen zero\u200bwidth ﬁne ＡＢＣ １２３ ½ x² ①  naïve\u200dness\ufe0f \u202eabc\u202c ﷺ",
}


def asked(text: str) -> list[str]:
    """The words of a text as somebody would copy them: what stands between spaces and has a letter or a digit."""
    return [word for word in text.split() if any(character.isalnum() for character in word)]


def fill(collection: Collection, texts: dict[Any, str]) -> None:
    vectors = np.random.default_rng(0).standard_normal((len(texts), 16))
    collection.upsert(list(texts), list(texts.values()), vectors=vectors)


def misses(collection: Collection, texts: dict[Any, str]) -> list[tuple[Any, str]]:
    """Words that do not find their own text, by search or by filter; what does not agree counts too."""
    with collection.opened.read_view() as rest:  # one transaction: a search by words asks the reader the same
        wrong = []
        for name, text in texts.items():
            row = rest.reader.rows_of_ids([name]).get(name)
            for word in dict.fromkeys(asked(text)):
                ranked, filtered = set(rest.reader.lexical(word, None)[0].tolist()), rest.reader.rows_with(word)
                if row not in ranked or row not in filtered or not set(filtered.tolist()) <= ranked:
                    wrong.append((name, word))
        return wrong


def test_every_word_of_every_language_finds_its_text(collection: Collection):
    fill(collection, SENTENCES)
    assert misses(collection, SENTENCES) == []
    for name, text in SENTENCES.items():
        for word in asked(text):
            hits = collection.search(word, k=len(SENTENCES), mode="lexical", highlight=True)
            (hit,) = (hit for hit in hits if hit.id == name)
            spelled = "".join(text[start:end] for start, end in hit.highlights)
            assert spelled, (name, word)
            assert name in {one.id for one in collection.scan(where={"$text": word})}
            assert collection.count(where={"$not": {"$text": word}}) <= len(SENTENCES) - 1


@pytest.mark.shared
@pytest.mark.parametrize("language", ["de", "fr", "es", "it", "pt", "ru", "zh", "ja", "ar", "hi"])
def test_every_word_of_a_thousand_sentences_finds_its_text(collection: Collection, language: str):
    path = SHARED / "data" / "tatoeba_parallel" / f"{language}-en.jsonl.gz"
    if not path.exists():
        pytest.skip("no shared data")
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    texts = {number: str(json.loads(line)["text"]) for number, line in enumerate(lines)}
    fill(collection, texts)
    assert misses(collection, texts) == []


def letters() -> Iterator[str]:
    """Each letter and digit of Unicode; of the large uniform blocks one in a hundred."""
    for code in range(0x30, sys.maxunicode):
        large = 0x3400 <= code < 0xA000 or 0xAC00 <= code < 0xD7A4 or code >= 0x17000
        if chr(code).isalnum() and (not large or code % 97 == 0):
            yield chr(code)


@pytest.mark.parametrize(("shape", "step"), [("{0}", 1), ("a{0}b", 7), ("кот{0}", 17), ("x_{0} 東{0}京", 61)])
def test_every_letter_of_unicode_is_found_as_it_is_written(collection: Collection, shape: str, step: int):
    every = list(letters())[::step]
    lines = [every[start : start + 40] for start in range(0, len(every), 40)]
    texts = {number: " ".join(map(shape.format, line)) for number, line in enumerate(lines)}
    fill(collection, texts)
    assert misses(collection, texts) == []
    assert collection.verify() == len(texts)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_a_text_is_normalized_character_by_character(text: str):
    aligned = Aligned.of(text)
    assert aligned.text == normalized(text)
    assert len(aligned.text) == len(aligned.starts) == len(aligned.ends)
    terms, _ = Words().located(text)
    assert [term.form for term in terms] == Words().stored(text)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(categories=["L", "M", "N", "P", "Cf", "Zs"]), max_size=30))
def test_a_text_has_the_words_that_it_asks_for(text: str):
    stored = Words().stored(text)
    for word in Words().query(text):
        forms = [part.form for part in word.parts]
        if word.phrase:
            starts = range(len(stored) - len(forms) + 1)
            assert any(stored[start : start + len(forms)] == forms for start in starts)
        else:
            assert all(any(term.startswith(form) if part.prefix else term == form for term in stored)
                       for part, form in zip(word.parts, forms, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "query", "matches"),
    [
        ("データベースの検索エンジン", "検索", True), ("データベースの検索エンジン", "データ", True),
        ("データベースの検索エンジン", "スの検", True), ("データベース", "ダータ", False), ("カス", "ガス", False),
        ("ｶﾞｽ", "ガス", True), ("か\u3099す", "がす", True), ("向量数据库", "库", True), ("向量数据库", "量据", False),
        ("ภาษาไทย", "ไทย", True), ("ဘာသာ", "သာ", True), ("고양이가", "고양이", True),
        ("\u1100\u1161\u11a8도", "각도", True),
        ("user_id", "userid", True), ("userid", "user_id", True), ("user_id", "id", True), ("user_id", "user id", True),
        ("UserId", "user_id", True), ("user id", "UserId", True), ("HTTPServer", "server", True),
        ("C++ and C#", "C", True), ("C", "C++", False), ("C++", "C#", False), ("C++", "c++", True), ("a+b", "b", True),
        ("v1.2.3", "1.2", False), ("v1.2.3", "V1.2.3", True), ("v12.3", "v1.23", False),
        ("e-mail", "email", True), ("email", "E‑Mail", True), ("ann.lee@x.org", "lee", True), ("U.S.A.", "usa", True),
        ("don’t", "dont", True), ("don't", "don’t", True),
        ("новый", "новыи", False), ("ёлка", "елка", True), ("Łódź", "lodz", True), ("Straße", "STRASSE", True),
        ("ISPARTA", "ısparta", True), ("إيران", "ایران", True), ("שָׁלוֹם", "שלום", True), ("٢٠٢٤", "2024", True),
        ("soft\u00adhyphen", "softhyphen", True), ("zero\u200bwidth", "zerowidth", True),
        ("zero\u200bwidth", "zero", True),
        ("ﬁne ＡＢＣ", "fine abc", True), ("प्रश्न", "परशन", False),
    ],
)  # fmt: skip
def test_the_rule(collection: Collection, stored: str, query: str, matches: bool):
    fill(collection, {"a": stored})
    assert collection.count(where={"$text": query}) == matches
    assert bool(collection.search(query, mode="lexical")) >= matches


def test_highlights_are_of_what_is_written(collection: Collection):
    fill(collection, {"a": "Ｅ-Mail の検索エンジン: soft\u00adhyphen, user_id; ｶﾞｽ CAFE\u0301!"})
    for query, spans in {
        "email": ["Ｅ-Mail"], "検索": ["検索"], "索エン": ["索エン"], "softhyphen": ["soft\u00adhyphen"],
        "id": ["id"], "userId": ["user_id"], "ガス": ["ｶﾞｽ"], "café": ["CAFE\u0301"], "ン": ["ン", "ン"], "x": [],
    }.items():  # fmt: skip
        hits = (
            collection.search(np.ones(16), k=1)
            if query == "x"
            else collection.search(query, mode="lexical", highlight=True)
        )
        assert [hits[0].text[start:end] for start, end in hits[0].highlights] == spans, query


def test_what_was_deleted_by_words_had_them(collection: Collection):
    fill(collection, {"a": "новый чайник", "b": "старый стол"})
    assert collection.delete(where={"$not": {"$text": "чайник"}}) == 1
    assert [one.id for one in collection.scan()] == ["a"]
    assert collection.verify() == 1


def test_a_filter_of_very_many_words_is_refused(collection: Collection):
    fill(collection, {"a": " ".join(f"w{n}" for n in range(1000))})
    assert collection.count(where={"$text": " ".join(f"w{n}" for n in range(1000))}) == 1
    with pytest.raises(InputError, match="1001 words, expected 1000 at most"):
        collection.count(where={"$text": " ".join(f"w{n}" for n in range(1001))})
    assert len(collection.search("w3 " * 5000 + " ".join(f"q{n}" for n in range(3000)), mode="lexical")) == 1


def test_stemming_is_of_a_collection(tmp_path: Path, encoder: Any):
    with Collection.create(tmp_path / "a", encoder, stemming="english") as collection:
        fill(collection, {"a": "Lost cards were replaced", "b": "running dogs"})
        assert [hit.id for hit in collection.search("replacing a card", mode="lexical")] == ["a"]
        assert collection.count(where={"$text": "dog runs"}) == 1
        (hit,) = collection.search("card", mode="lexical", highlight=True)
        assert [hit.text[start:end] for start, end in hit.highlights] == ["cards"]
    with Collection.open(tmp_path / "a", encoder) as collection:
        assert collection.verify() == 2
        assert collection.delete(where={"$text": "card"}) == 1
    with pytest.raises(InputError, match="stemming is 'klingon', expected one of arabic"):
        Collection.create(tmp_path / "b", encoder, stemming="klingon")


OLD_WORDS = """
DROP TABLE terms;
CREATE VIRTUAL TABLE words USING fts5 (
    text, content = 'documents', content_rowid = 'row', tokenize = "unicode61 remove_diacritics 2");
INSERT INTO words (rowid, text) SELECT row, text FROM documents;
DELETE FROM meta WHERE key IN ('words', 'stemming');
UPDATE meta SET value = 3 WHERE key = 'format_version';
"""


def make_old(folder: Path, encoder: Any, texts: dict[Any, str]) -> None:
    """A collection as version 3 left it."""
    with Collection.create(folder, encoder) as collection:
        fill(collection, texts)
    with sqlite3.connect(folder / "collection.db") as database:
        database.executescript(OLD_WORDS)
    database.close()


def test_an_older_collection_is_indexed_again_when_it_is_opened(
    folder: Path, encoder: Any, caplog: pytest.LogCaptureFixture
):
    make_old(folder, encoder, SENTENCES)
    with caplog.at_level(logging.WARNING), Collection.open(folder, encoder) as collection:
        assert misses(collection, SENTENCES) == []
        assert collection.verify() == len(SENTENCES)
    assert f"indexing {len(SENTENCES)} texts again" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING), Collection.open(folder, encoder):
        assert not caplog.records


def test_indexing_again_resumes_where_it_was_interrupted(folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch):
    make_old(folder, encoder, SENTENCES)
    monkeypatch.setattr("index.storage.fts_rebuild._AT_ONCE", 5)
    added: list[int] = []
    from index.storage import fts as lexical

    add = lexical.add

    def failing(connection: Any, words: Any, rows: Any, texts: Any) -> None:
        if len(added) == 10:
            raise KeyboardInterrupt
        added.extend(rows)
        add(connection, words, rows, texts)

    monkeypatch.setattr(lexical, "add", failing)
    with pytest.raises(KeyboardInterrupt):
        Collection.open(folder, encoder)
    monkeypatch.setattr(lexical, "add", add)
    again: list[int] = []
    monkeypatch.setattr(lexical, "add", lambda c, w, rows, texts: (again.extend(rows), add(c, w, rows, texts)))
    with Collection.open(folder, encoder) as collection:
        assert misses(collection, SENTENCES) == []
        assert collection.verify() == len(SENTENCES)
    assert added + again == sorted({*added, *again})
    assert len(again) == len(SENTENCES) - 10


def test_a_process_of_other_rules_does_not_write(folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch):
    """Terms of two versions of Unicode in one index could not be taken out again."""
    with Collection.create(folder, encoder) as collection:
        fill(collection, SENTENCES)
        monkeypatch.setattr("unicodedata.unidata_version", "99.0")
        with pytest.raises(SaveError, match="Nothing was written; open it again"):
            collection.delete(["ru"])
        with pytest.raises(SaveError, match="Nothing was written; open it again"):
            fill(collection, {"new": "x"})
        bring_up_to_date(collection.opened.database)
        assert collection.delete(["ru"]) == 1
        assert collection.verify() == len(SENTENCES) - 1
