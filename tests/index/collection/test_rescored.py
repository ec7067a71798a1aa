from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import InputError
from encoder_tools.vectors import unit_rows
from index import Collection
from index.rescoring.rescorer import COSINE
from index.rescoring.token_store import NAME
from tests.index.conftest import RoleEncoder, word_vector


class WordEncoder(RoleEncoder):
    """Gives each word's own vector too, and counts the texts it was given."""

    encoded = 0

    def token_vectors(self, texts: Any, *, role: str):
        self.encoded += len(texts)
        texts = [text.removeprefix("query: ") for text in texts] if role == "query" else texts
        return [self._words(text.split()) for text in texts]

    def _words(self, words: list[str]):
        return unit_rows(np.array([word_vector(word, self.dim) for word in words]).reshape(-1, self.dim))


TEXTS = {
    number: f"alpha word{number} " + " ".join(f"w{number * 7 + at}" for at in range(number % 9)) for number in range(80)
}


@pytest.fixture
def encoder():
    return WordEncoder(dim=32)


@pytest.fixture
def filled(collection: Collection):
    collection.upsert([*TEXTS], [*TEXTS.values()], [{"even": number % 2 == 0} for number in TEXTS])
    return collection


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_scores_are_the_mean_of_cosine_and_maxsim_in_order(filled: Collection, encoder: Any, mode: Any):
    query = "alpha word7 w49"
    hits = filled.search(query, 50, mode=mode, rescore="tokens")
    assert {hit.id for hit in hits} == {hit.id for hit in filled.search(query, 50, mode=mode)}
    words = encoder.token_vectors([query], role="query")[0]
    for hit in hits:
        cosine = float(encoder.encode_query([query])[0] @ encoder.encode_document([hit.text])[0])
        exact = (words @ encoder.token_vectors([hit.text], role="document")[0].T).max(axis=1).mean()
        assert hit.score == pytest.approx(COSINE * cosine + (1 - COSINE) * exact, abs=0.03)  # of four bits
        assert hit.parts[-1].name == "tokens"
        assert hit.parts[0].name in ("dense", "lexical")
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert sorted(hit.parts[-1].rank for hit in hits) == list(range(1, len(hits) + 1))


def test_a_document_with_each_word_of_the_query_comes_first(filled: Collection):
    assert filled.search("word33 w233", 1, rescore="tokens")[0].id == 33


def test_pages_are_slices_of_one_ranking(filled: Collection):
    options: dict[str, Any] = {"rescore": "tokens", "mode": "hybrid", "where": {"even": True}}
    whole = filled.search("alpha word8", 40, **options)
    assert len(whole) == 40
    for k, offset in ((1, 0), (10, 5), (15, 25)):
        assert filled.search("alpha word8", k, offset=offset, **options) == whole[offset : offset + k]
    last = filled.search("alpha word8", 10, offset=45, rescore="tokens")
    assert len(last) == 5  # there are fifty
    floor = whole[10].score
    above = filled.search("alpha word8", 40, min_score=floor, **options)
    assert above == [hit for hit in whole if hit.score >= floor]


def test_groups_are_ranked_by_their_best_before_rescoring(filled: Collection):
    hits = filled.search("alpha word8", 10, rescore="tokens", group_by="even")
    assert sorted(hit.metadata["even"] for hit in hits) == [False, True]


def test_a_text_is_encoded_once_for_all_searches_and_processes(filled: Collection, encoder: Any, folder: Path):
    filled.search("alpha", 10, rescore="tokens")
    first = encoder.encoded
    assert first == 51  # the query, and fifty texts
    filled.search("alpha", 10, rescore="tokens")
    assert encoder.encoded == first + 1
    assert filled.prepare_rescoring() == 80
    assert encoder.encoded == first + 1 + 30
    with Collection.open(folder, encoder) as again:
        again.search("word3", 10, rescore="tokens")
    assert encoder.encoded == first + 2 + 30


def test_a_changed_text_is_another_and_the_old_one_is_forgotten(filled: Collection, encoder: Any):
    filled.prepare_rescoring()
    filled.upsert([33], ["unlike anything"])
    assert filled.search("unlike anything", 1, rescore="tokens")[0].id == 33
    filled.prepare_rescoring()
    before = encoder.encoded
    filled.upsert([33], [TEXTS[33]])
    filled.prepare_rescoring()
    assert encoder.encoded == before + 1


def test_what_is_kept_is_not_the_collection(filled: Collection, folder: Path):
    expected = filled.search("alpha word7", 10, rescore="tokens")
    (folder / NAME).write_bytes(b"damaged" * 1000)
    assert filled.search("alpha word7", 10, rescore="tokens") == expected
    assert filled.verify() == 80


def test_a_reembedded_collection_uses_the_new_model(filled: Collection):
    filled.prepare_rescoring()
    other = WordEncoder(dim=16, fingerprint="another")
    filled.reembed(other)
    assert filled.search("word33 w233", 1, rescore="tokens")[0].id == 33
    assert other.encoded >= 51


def test_several_queries_each_have_their_own(filled: Collection):
    queries = ["word33 w233", "word5 w35"]
    together = filled.search_many(queries, 5, rescore="tokens")
    assert [hits[0].id for hits in together] == [33, 5]
    for hits, query in zip(together, queries, strict=True):
        alone = filled.search(query, 5, rescore="tokens")
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-5)


def test_neighbors_and_highlights_come_with_rescored_hits(filled: Collection):
    hit = filled.search("word33", 1, rescore="tokens", highlight=True)[0]
    assert hit.highlights == ((6, 12),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 51}, "first 50 hits"),
        ({"k": 1, "offset": 50}, "first 50 hits"),
        ({"rescore": "words"}, "expected 'tokens'"),
        ({"rescore": True}, "expected 'tokens'"),
        ({"diversity": 0.5}, "diversity and rescore"),
    ],
)
def test_what_cannot_be_rescored_is_rejected(filled: Collection, options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        filled.search("alpha", **{"rescore": "tokens", **options})


def test_vectors_have_no_words(filled: Collection):
    with pytest.raises(InputError, match="query is no text"):
        filled.search(np.ones(32), rescore="tokens")


def test_a_model_without_token_vectors_is_named(folder: Path):
    with Collection.create(folder, RoleEncoder()) as made:
        made.upsert([1], ["text"])
        with pytest.raises(InputError, match="RoleEncoder gives none"):
            made.search("text", rescore="tokens")
        with pytest.raises(InputError, match="RoleEncoder gives none"):
            made.prepare_rescoring()
    with Collection.open(folder, None) as without, pytest.raises(InputError, match="without a model"):
        without.search("text", mode="lexical", rescore="tokens")


def test_an_empty_collection_and_an_empty_text(collection: Collection):
    assert collection.search("word", rescore="tokens") == []
    collection.upsert([1, 2], ["", "word"])
    assert [hit.id for hit in collection.search("word", rescore="tokens")] == [2, 1]
    assert len(collection.search("", rescore="tokens")) == 2
