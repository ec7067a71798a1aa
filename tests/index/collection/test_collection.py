import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import FingerprintError, InputError
from index import Collection, Document


def random_vectors(n: int, dim: int = 16, seed: int = 0):
    return np.random.default_rng(seed).standard_normal((n, dim))


def test_documents_are_found_by_text(collection: Collection):
    collection.upsert(["a", 7], ["red cat", "old town"], [{"n": 1}, None])
    (best, second) = collection.search("query: old town", k=2)
    assert best == (7, pytest.approx(1.0), "old town", {}, (), (), (), ())
    assert (second.id, second.text, second.metadata) == ("a", "red cat", {"n": 1})
    assert type(best.score) is float


def test_search_equals_brute_force(collection: Collection):
    vectors, queries = random_vectors(300), random_vectors(5, seed=1)
    collection.upsert(list(range(300)), ["t"] * 300, vectors=vectors)
    cosines = queries @ vectors.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
    for found, exact in zip(collection.search_many(queries, k=20), cosines, strict=True):
        assert [hit.id for hit in found] == np.argsort(-exact)[:20].tolist()
        np.testing.assert_allclose([hit.score for hit in found], np.sort(exact)[::-1][:20], atol=1e-6)


def test_everything_is_there_after_reopening(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as first:
        first.upsert(["a", "b"], ["red cat", "naïve 🙂"], [{"x": [1, {"y": None}]}, {}])
        expected = first.search("red", k=2)
    with Collection.open(folder, encoder) as again:
        assert again.count() == 2
        assert again.search("red", k=2) == expected
        assert again.get(["b", "missing", "a"]) == [
            Document("b", "naïve 🙂", {}), None, Document("a", "red cat", {"x": [1, {"y": None}]}),
        ]  # fmt: skip


def test_upsert_replaces_text_metadata_and_vector(collection: Collection):
    collection.upsert(["a", "b"], ["red cat", "old town"])
    collection.upsert(["a", "c"], ["blue sea", "dry land"], [{"v": 2}, {}])
    assert collection.count() == 3
    assert collection.get(["a"]) == [Document("a", "blue sea", {"v": 2})]
    assert collection.search("blue sea", k=1)[0].score == pytest.approx(1.0)
    assert all(hit.score < 0.99 for hit in collection.search("red cat", k=9))


def test_number_and_text_ids_are_apart(collection: Collection):
    collection.upsert([1, "1", -(2**63)], ["number", "string", "smallest"])
    assert [d.text for d in collection.get(["1", 1, -(2**63)])] == ["string", "number", "smallest"]


def test_k_above_the_count_gives_all_and_an_empty_collection_none(collection: Collection):
    assert collection.search("x") == []
    assert collection.search_many([]) == []
    collection.upsert([1, 2], ["a", "b"])
    assert len(collection.search("x", k=100)) == 2


def test_injected_text_is_only_text(collection: Collection):
    nasty = "'); DROP TABLE documents; --"
    collection.upsert([nasty], [nasty], [{nasty: nasty}])
    assert collection.get([nasty]) == [Document(nasty, nasty, {nasty: nasty})]


@pytest.mark.parametrize(
    ("ids", "texts", "metadata", "vectors", "message"),
    [
        ("ab", ["x", "y"], None, None, "ids is a str"),
        (["a", "a"], ["x", "y"], None, None, "distinct"),
        (["a", None], ["x", "y"], None, None, "Id 1 is a NoneType"),
        (["a", 1.5], ["x", "y"], None, None, "Id 1 is a float"),
        (["a", True], ["x", "y"], None, None, "Id 1 is a bool"),
        (["a", 2**63], ["x", "y"], None, None, "64 bits"),
        (["a", "\ud800"], ["x", "y"], None, None, "Id 1 holds a lone surrogate"),
        (["a", "b" * 5000], ["x", "y"], None, None, "Id 1 takes 5000 bytes"),
        (["a", "b"], ["x", "é" * 2**23 + "é"], None, None, "Text 1 takes 16777218 bytes"),
        (["a", "b"], ["x", "y"], [{}, {"f": "x" * 2**20}], None, "Metadata 1 takes 1048585 bytes"),
        (["a"], ["x", "y"], None, None, "2 texts for 1 ids"),
        (["a", "b"], ["x", 3], None, None, "Text 1 is a int"),
        (["a", "b"], ["x", "\udfff"], None, None, "Text 1 holds a lone surrogate"),
        (["a", "b"], ["x", "y"], [{}], None, "1 metadata objects"),
        (["a", "b"], ["x", "y"], [{}, "no"], None, "Metadata 1 is a str"),
        (["a", "b"], ["x", "y"], [{}, {1: 2}], None, "string keys"),
        (["a", "b"], ["x", "y"], [{}, {"f": np.nan}], None, "JSON"),
        (["a", "b"], ["x", "y"], [{}, {"f": {1}}], None, "JSON"),
        (["a", "b"], ["x", "y"], [{}, {"f": "\ud800"}], None, "Metadata 1 holds a lone surrogate"),
        (["a", "b"], ["x", "y"], None, np.ones((2, 15)), "expected numbers"),
        (["a", "b"], ["x", "y"], None, np.ones((1, 16)), "1 vectors for 2 ids"),
        (["a", "b"], ["x", "y"], None, [[1.0] * 16, [1.0]], "differ in width"),
        (["a", "b"], ["x", "y"], None, np.vstack([np.ones(16), np.zeros(16)]), "Vector 1 is zero"),
        (["a", "b"], ["x", "y"], None, np.vstack([np.ones(16), np.full(16, np.nan)]), "Vector 1 holds NaN"),
        (["a", "b"], ["x", "y"], None, np.vstack([np.full(16, np.inf), np.ones(16)]), "Vector 0 holds NaN or inf"),
    ],
)
def test_bad_documents_are_refused_and_nothing_is_written(
    collection: Collection, ids: Any, texts: Any, metadata: Any, vectors: Any, message: str
):
    collection.upsert(["kept"], ["kept"])
    with pytest.raises(InputError, match=message) as caught:
        collection.upsert(ids, texts, metadata, vectors)
    assert "\n" not in str(caught.value)
    assert [hit.id for hit in collection.search("kept")] == ["kept"]


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "3", None])
def test_bad_k_is_refused(collection: Collection, k: Any):
    with pytest.raises(InputError, match="k is"):
        collection.search("x", k=k)


@pytest.mark.parametrize(
    "query", [None, 3, [], [["a"]], [[1.0] * 16], [0.0] * 16, [np.nan] * 16, [1.0] * 15, "\ud800", ["a", "b"]]
)
def test_bad_queries_are_refused(collection: Collection, query: Any):
    collection.upsert([1], ["x"])
    with pytest.raises(InputError):
        collection.search(query)


@pytest.mark.parametrize("queries", ["lone", None, ["a", 1], [[1.0], [1.0, 2.0]]])
def test_bad_query_lists_are_refused(collection: Collection, queries: Any):
    collection.upsert([1], ["x"])
    with pytest.raises(InputError):
        collection.search_many(queries)


def test_another_model_of_the_same_width_is_refused(collection: Collection, folder: Path, encoder: Any):
    with pytest.raises(FingerprintError, match="re-embed"):
        Collection.open(folder, type(encoder)(fingerprint="other"))


def test_the_same_model_at_another_width_is_refused(collection: Collection, folder: Path, encoder: Any):
    with pytest.raises(InputError, match="width 16"):
        Collection.open(folder, type(encoder)(dim=8))


def test_a_folder_in_use_is_not_created_over(collection: Collection, folder: Path, encoder: Any):
    collection.upsert([1], ["x"])
    with pytest.raises(InputError, match="not empty"):
        Collection.create(folder, encoder)
    assert collection.count() == 1


def test_a_closed_collection_says_so(collection: Collection):
    collection.close()
    for call in (collection.count, lambda: collection.search("x"), lambda: collection.upsert([1], ["x"])):
        with pytest.raises(InputError, match="closed"):
            call()
    collection.close()


def test_long_input_is_encoded_in_slices_with_progress(collection: Collection, capsys: pytest.CaptureFixture[str]):
    collection.upsert(list(range(1500)), [f"w{i % 7} {i}" for i in range(1500)], show_progress=True)
    assert collection.count() == 1500
    assert "1500/1500" in capsys.readouterr().err


def test_importing_index_loads_no_faiss():
    code = "import sys, index; sys.exit(any(n in sys.modules for n in ('faiss', 'torch', 'onnxruntime', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
