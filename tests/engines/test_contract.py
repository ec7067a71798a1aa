"""What every engine does: the same cases, held against exact search and against the embedded engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from encoder_tools.errors import FileMissingError, FingerprintError, InputError
from index import Chunking, Collection
from index.query.filters import read_filter
from tests.engines.load import under_load
from tests.index.conftest import RoleEncoder
from tests.index.query.test_filters import FILTERS, METADATA, plainly

TEXTS = {
    "cat": "The cat sat on the mat, the cat slept.",
    "rain": "Rain in Spain stays mainly in the plain.",
    7: "C++ and C# are languages; e-mail me at a@b.example.",
    "7": "東京都に住んでいます。京都にも行きました。",
    "de": "Größe und Straße: die Größe der Straße.",
    "empty": "",
}


def fill(collection: Collection, count: int, seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((count, collection.about.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    metadata = [{"n": number % 1000, "even": number % 2 == 0} for number in range(count)]
    for start in range(0, count, 1000):
        ids = list(range(start, min(start + 1000, count)))
        collection.upsert(ids, [f"text {one}" for one in ids], metadata[start : start + 1000], vectors[ids])
    return vectors


def test_what_is_stored_comes_back_as_it_was(collection: Collection):
    metadata = [{"b": 1, "a": [1.0, None, {"x": "é"}], "big": 2**60, "float": 1e300}, None, {}, {"n": -0.0}, {}, {}]
    assert collection.upsert([*TEXTS], [*TEXTS.values()], metadata) == 6
    documents = collection.get([*TEXTS, "none", 8])
    assert [document and (document.id, document.text) for document in documents] == [*TEXTS.items(), None, None]
    assert [document.metadata for document in documents if document] == [one or {} for one in metadata]
    assert list(collection.ids()) == [*TEXTS]
    assert [document.id for document in collection.scan()] == [*TEXTS]
    assert [document.id for document in collection.scan(after=7)] == ["7", "de", "empty"]
    assert collection.count() == collection.verify() == 6
    (vector,) = collection.vectors(["cat"])
    assert vector is not None
    assert np.array_equal(vector, RoleEncoder().encode_document([TEXTS["cat"]])[0])


def test_writes_replace_delete_and_are_seen_at_once(collection: Collection, address: Any, encoder: Any):
    collection.upsert([*TEXTS], [*TEXTS.values()])
    before = collection.sequence
    collection.upsert(["cat"], ["A dog."], [{"kind": "dog"}])
    assert collection.sequence > before
    assert collection.search("A dog.", 1)[0].id == "cat"
    with Collection.open(address, encoder) as other:
        assert other.get(["cat"])[0] == ("cat", "A dog.", {"kind": "dog"})
        assert other.set_metadata(["cat"], [{"kind": "wolf"}]) == 1
        assert other.delete(["rain", "unknown"]) == 1
    assert collection.count(where={"kind": "wolf"}) == 1
    assert collection.get(["rain"]) == [None]
    assert collection.delete(where={"kind": {"$exists": True}}) == 1
    assert collection.delete_all() == 4
    assert collection.count() == 0
    assert collection.search("anything", 3, mode="hybrid") == []
    assert collection.verify() == 0


def test_a_batch_is_written_whole_or_not_at_all(collection: Collection):
    collection.upsert(["a"], ["kept"])
    with pytest.raises(InputError):
        collection.upsert(["b", "b"], ["x", "y"])
    with pytest.raises(InputError):
        collection.set_metadata(["a", "missing"], [{"n": 1}, {"n": 2}])
    assert [document.metadata for document in collection.scan()] == [{}]


@given(documents=..., condition=FILTERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def filters_match(collection: Collection, documents: list[dict[str, Any]], condition: Any) -> None:
    collection.delete_all()
    collection.upsert(list(range(len(documents))), ["text"] * len(documents), documents)
    expected = [number for number, one in enumerate(documents) if plainly(one, read_filter(condition))]
    hits = collection.search("text", max(1, len(documents)), where=condition)
    assert sorted(hit.id for hit in hits) == expected
    assert collection.count(where=condition) == len(expected)


def test_filters_match_what_a_plain_reading_matches(collection: Collection):
    from hypothesis import strategies as st

    given(documents=st.lists(METADATA, min_size=1, max_size=6), condition=FILTERS)(
        settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])(
            lambda documents, condition: filters_match.hypothesis.inner_test(collection, documents, condition)
        )
    )()


@pytest.mark.parametrize("share", [0, 1, 5, 10, 100, 900, 1000])
def test_the_nearest_of_what_matches_whatever_its_share(collection: Collection, share: int):
    vectors = fill(collection, 1500)
    numbers = np.arange(1500) % 1000
    for query in np.random.default_rng(1).standard_normal((10, 16)).astype(np.float32):
        scores = np.where(numbers < share, vectors @ query / np.linalg.norm(query), -9)
        expected = [one for one in np.argsort(-scores, kind="stable")[:10].tolist() if scores[one] > -9]
        hits = collection.search(query, 10, where={"n": {"$lt": share}})
        assert [hit.score for hit in hits] == pytest.approx([float(scores[one]) for one in expected], abs=1e-5)


@pytest.mark.parametrize("name", ["a%b", "%s", "a'b", 'a"b', "{x}", "a{", "ü", r"back\\slash", "-- x", "0", " "])
def test_fields_may_be_called_anything(collection: Collection, name: str):
    collection.upsert([1, 2, 3], ["a", "b", "c"], [{name: 1}, {name: "x%sy{}"}, {}])
    field = name.replace(".", r"\.")
    for _ in range(2):
        assert [hit.id for hit in collection.search("a", 5, where={field: {"$lt": 5}})] == [1]
        assert [hit.id for hit in collection.search("a", 5, where={field: "x%sy{}"})] == [2]
        assert [hit.id for hit in collection.search("a", 5, where={field: {"$exists": False}})] == [3]
        assert [hit.id for hit in collection.search("b", 5, mode="lexical", where={field: {"$gt": ""}})] == [2]
        collection.compact()  # which indexes it, where an engine does


QUERIES = ["the cat", "rain Spain", "C++", "C", "a@b.example", "京都", "都", "straße GRÖSSE", "nothing here", "the", ""]


@pytest.mark.parametrize("query", QUERIES)
def test_words_are_ranked_as_in_the_embedded_engine(collection: Collection, tmp_path: Path, encoder: Any, query: str):
    with Collection.create(tmp_path / "reference", encoder) as reference:
        for one in (collection, reference):
            one.upsert([*TEXTS], [*TEXTS.values()], [{"n": number} for number in range(6)])
            one.upsert(["cat"], [TEXTS["cat"]])
            one.delete(["empty"])
        for options in ({"mode": "lexical"}, {"mode": "hybrid"}, {"mode": "lexical", "where": {"n": {"$gte": 2}}}):
            expected = reference.search(query, 10, **options)  # type: ignore[arg-type]
            hits = collection.search(query, 10, **options)  # type: ignore[arg-type]
            assert [hit.id for hit in hits] == [hit.id for hit in expected]
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)
        where = {"$text": query}
        both = [one.search("cat rain", 10, mode="lexical", where=where) for one in (collection, reference)]
        assert [hit.id for hit in both[0]] == [hit.id for hit in both[1]]
        assert collection.count(where=where) == reference.count(where=where)


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_pages_are_slices_of_one_ranking(collection: Collection, mode: Any):
    fill(collection, 300)
    whole = collection.search("text 7 text 8", 250, mode=mode)
    for k, offset in ((1, 0), (10, 5), (50, 90), (20, 230)):
        page = collection.search("text 7 text 8", k, offset=offset, mode=mode)
        assert [hit.id for hit in page] == [hit.id for hit in whole[offset : offset + k]]


def test_groups_diversity_and_highlights(collection: Collection):
    fill(collection, 100)
    assert len(collection.search("text 3", 10, group_by="even")) == 2
    assert len(collection.search("text 3", 5, diversity=0.5)) == 5
    (hit,) = collection.search("text 3", 1, mode="lexical", highlight=True)
    assert [hit.text[start:end] for start, end in hit.highlights] == ["text", "3"]
    assert collection.search_like(5, 3)[0].id != 5
    assert collection.projection().points.shape == (100, 2)


class Counting(RoleEncoder):
    """Has a tokenizer, and counts what it encodes."""

    encoded = 0
    document_room = None

    @property
    def tokenizer_file(self) -> Path:
        from encoder_tools import OnnxEncoder

        return OnnxEncoder().tokenizer_file

    def encode_document(self, texts: Any):
        self.encoded += len(texts)
        return super().encode_document(texts)


def test_chunks_are_stored_replaced_and_deleted_as_a_whole(address: Any):
    encoder = Counting()
    with Collection.create(address, encoder) as collection:
        text = "\n\n".join(f"Paragraph {number} speaks of item{number} alone." for number in range(30))
        chunking = Chunking(tokens=16, overlap=0)
        assert collection.upsert(["doc", "other"], [text, "One."], chunking=chunking) == 2
        first = encoder.encoded
        assert collection.upsert(["doc"], [text], chunking=chunking) == 0
        assert encoder.encoded == first
        hit = collection.search("item17", 1, mode="lexical", neighbors=1)[0]
        assert hit.metadata["document"] == "doc"
        assert [one.metadata["chunk"] for one in (*hit.before, *hit.after)] == [
            hit.metadata["chunk"] - 1,
            hit.metadata["chunk"] + 1,
        ]
        with pytest.raises(InputError, match="piece of the document"):
            collection.delete([hit.id])
        assert list(collection.ids()) == ["doc", "other"]
        collection.upsert(["doc"], [text.replace("item17", "thing")], chunking=chunking)
        assert encoder.encoded <= first + 2
        assert collection.search("item17", 1, mode="lexical") == []
        assert collection.delete(["doc"]) > 10
        assert collection.verify() == 1


def test_other_models_are_refused_and_missing_collections_named(collection: Collection, address: Any, encoder: Any):
    with pytest.raises(FingerprintError):
        Collection.open(address, RoleEncoder(fingerprint="another"))
    with pytest.raises(InputError, match=r"exists|not empty"):
        Collection.create(address, encoder)
    collection.close()
    with pytest.raises(InputError, match="closed"):
        collection.search("text")
    Collection.drop(address)
    with pytest.raises(FileMissingError):
        Collection.open(address, encoder)
    with pytest.raises(FileMissingError):
        Collection.drop(address)


def test_reembedding_under_load_switches_at_once(collection: Collection, encoder: Any, address: Any):
    fill(collection, 400)
    new, seen = RoleEncoder(dim=24, fingerprint="new"), list[tuple[int, int]]()

    def search(_: int) -> None:
        assert collection.search("text 3", 5)

    with Collection.open(address, encoder) as other:

        def write(number: int) -> bool:
            try:
                return bool(other.upsert([f"w{number % 20}"], [f"written {number}"]))
            except FingerprintError:  # the collection has the new model by now
                return False

        with under_load(write, search) as errors:
            collection.reembed(new, progress=lambda done, count: seen.append((done, count)))
    assert errors == []
    assert seen[-1][0] == seen[-1][1]
    assert collection.about.fingerprint == "new"
    assert collection.about.dim == 24
    (hit, *_) = collection.search("text 3", 1)
    vector = new.encode_query(["text 3"])[0]
    documents = list(collection.scan())
    best = max(float(vector @ new.encode_document([document.text])[0]) for document in documents)
    assert hit.score == pytest.approx(best, abs=1e-5)
    assert collection.verify() == len(documents)
    with pytest.raises(FingerprintError):
        Collection.open(address, encoder)


def test_an_interrupted_reembedding_resumes(collection: Collection, encoder: Any, address: Any):
    fill(collection, 600)
    new = RoleEncoder(dim=24, fingerprint="new")

    class Interrupted(Exception):  # noqa: N818
        pass

    def progress(done: int, _count: int) -> None:
        if done:
            raise Interrupted

    with pytest.raises(Interrupted):
        collection.reembed(new, progress=progress)
    assert collection.stats().reembedding == ("new", 256)
    with Collection.open(address, encoder) as other:
        with pytest.raises(InputError, match="being re-embedded"):
            other.reembed(RoleEncoder(dim=8, fingerprint="third"))
        started: list[int] = []
        other.reembed(new, progress=lambda done, _count: started.append(done))
        assert started[0] == 256
    with Collection.open(address, new) as other:
        assert other.verify() == 600


def test_two_clients_write_at_once_and_nothing_is_lost_or_doubled(collection: Collection, address: Any, encoder: Any):
    def work(name: str) -> None:
        with Collection.open(address, encoder, busy_timeout=60) as own:
            for number in range(30):
                own.upsert([f"{name}{number}", "shared"], [f"{name} {number}", f"last by {name}"])

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collection.count() == collection.verify() == 91
    assert len(collection.search("last by", 5, mode="lexical")) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda collection: collection.search("x", k=0),
        lambda collection: collection.search("x", where={"n": {"$no": 1}}),
        lambda collection: collection.upsert([1], ["a", "b"]),
        lambda collection: collection.upsert([1.5], ["a"]),
        lambda collection: collection.upsert([1], ["a"], [{"x": float("nan")}]),
        lambda collection: collection.delete(),
        lambda collection: collection.search(np.zeros(16)),
    ],
)
def test_wrong_calls_are_the_same_errors(collection: Collection, call: Callable[[Collection], Any]):
    with pytest.raises(InputError):
        call(collection)
