"""The recall that is promised is there for queries that are no documents, for 1 hit and 100, and after writes."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import Collection
from index.ann import builder
from index.ann.hnsw import Hnsw
from index.ann.query_sample import CAPACITY, RecentQueries
from index.text.query_pieces import pieces_of

N, DIM = 6000, 32
SHARED = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "GRAPH_FROM", 1000)


def unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(count: int, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(7).standard_normal((60, DIM))
    return unit(centers[generator.integers(60, size=count)] + 0.6 * generator.standard_normal((count, DIM)))


def fill(folder: Path, encoder: Any, vectors: Any) -> None:
    count = len(vectors)
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(count)), [f"word{n} another text {n % 50}" for n in range(count)], vectors=vectors)


def recall(collection: Collection, stored: Any, queries: Any, k: int) -> float:
    """By scores: of twins either one is right."""
    shares = []
    for query, hits in zip(queries, collection.search_many(queries, k), strict=True):
        least = np.sort(stored @ query)[-k] - 1e-5
        assert len({hit.id for hit in hits}) == k
        shares.append(sum(hit.score >= least for hit in hits) / k)
    return float(np.mean(shares))


def unlike_documents(stored: Any) -> dict[str, Any]:
    """Queries as real ones are: far from all documents, and between them."""
    generator = np.random.default_rng(3)
    some = stored[generator.integers(len(stored), size=(2, 150))]
    return {"far": unit(0.6 * some[0] + 0.8 * unit(generator.standard_normal((150, DIM)))), "between": unit(sum(some))}


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_what_is_promised_holds_for_queries_that_are_no_documents(folder: Path, encoder: Any, kind: Any):
    stored = clustered(N, 1)
    encoder.dim = DIM
    fill(folder, encoder, stored)
    with Collection.open(folder, encoder, index=kind, recall=0.95) as collection:
        collection.compact()
        stats = collection.stats()
        groups = stats.recall_by_group or {}
        assert groups.keys() == {"stored", "near", "far", "between", "pieces"}
        assert stats.recall == min(share for shares in groups.values() for share in shares.values())
        assert all(shares.keys() == {1, 10, 100} for shares in groups.values())
        assert stats.recall >= 0.95
        for name, queries in unlike_documents(stored).items():
            for k in (1, 10, 100):
                assert recall(collection, stored, queries, k) >= 0.9, (name, k)  # 0.95, less what 150 queries scatter


@pytest.mark.shared
def test_what_is_promised_holds_for_real_queries(tmp_path: Path):
    """Cranfield's, German and two-word queries over sentences, by the shipped model."""
    if not SHARED.exists():
        pytest.skip("no shared data")
    from encoder_tools import OnnxEncoder
    from encoder_tools.model.shipped import DEFAULT_MODEL, model_path

    lines = gzip.decompress((SHARED / "sentences.tsv.gz").read_bytes()).decode().splitlines()[1:8001]
    texts = [line.split("\t")[1] for line in lines]
    encoder = OnnxEncoder(model_path(DEFAULT_MODEL))
    queries = {
        name: [json.loads(line)["text"] for line in gzip.decompress((SHARED / name).read_bytes()).decode().splitlines()]
        for name in ("cranfield/queries.jsonl.gz", "xquad_retrieval/queries.de.jsonl.gz")
    }
    queries["two words"] = [" ".join(text.split()[3:5]) for text in texts[:200] if len(text.split()) > 5]
    with Collection.create(tmp_path / "a", encoder) as collection:
        stored = encoder.encode_document(texts)
        collection.upsert(list(range(len(texts))), texts, vectors=stored)
        collection.compact()
        assert collection.stats().kind == "hnsw"
        for name, some in queries.items():
            for k in (1, 10, 100):
                assert recall(collection, stored, unit(encoder.encode_query(some[:200])), k) >= 0.92, (name, k)


def test_later_rows_are_taken_into_a_small_index(folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(builder, "_TAIL", 50)
    monkeypatch.setattr(builder, "_TAIL_AT_ONCE", 100)
    stored = clustered(N, 1)
    encoder.dim = DIM
    fill(folder, encoder, stored)
    with Collection.open(folder, None) as collection:
        collection.compact()
        for step in range(6):
            fresh = clustered(150, 100 + step)
            collection.upsert(list(range(len(stored), len(stored) + 150)), ["new"] * 150, vectors=fresh)
            stored = np.concatenate([stored, fresh])
            assert collection.search(fresh[3], 1)[0].score == pytest.approx(1, abs=1e-5)  # taken in or not
            with collection.opened.read_view() as view:
                view.builder.wait_until_built(view.snapshot)
            segments = collection.opened.state.now.builder.segments
            assert segments is not None
            assert segments.size == len(stored)
            assert isinstance(segments.parts[1].kind, Hnsw)
            assert collection.search(fresh[3], 1)[0].score == pytest.approx(1, abs=1e-5)
            assert recall(collection, stored, unlike_documents(stored)["far"], 10) >= 0.9
        gone = list(range(N, N + 400))
        collection.delete(gone)
        hits = collection.search_many(stored[N : N + 300], 10)
        assert not {hit.id for found in hits for hit in found} & set(gone)
        collection.upsert([0], ["moved"], vectors=stored[N : N + 1])
        assert collection.search(stored[N], 1)[0].id == 0
        assert collection.verify() == len(stored) - len(gone)


def test_recent_queries_are_tuned_with_and_kept_if_that_is_wanted(
    folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(builder, "_TUNE_AFTER", 0.0)
    stored = clustered(N, 1)
    encoder.dim = DIM
    fill(folder, encoder, stored)
    queries = unit(np.random.default_rng(5).standard_normal((100, DIM)))
    with Collection.open(folder, None, remember_queries=False) as collection:
        collection.compact()
        before = collection.stats()
        collection.search_many(queries)
        collection.compact()
        assert "recent" not in (collection.stats().recall_by_group or {})
    assert not list(folder.glob("queries-*"))
    with Collection.open(folder, None) as collection:
        collection.search_many(queries)
        collection.compact()
        after = collection.stats()
        assert (after.recall_by_group or {}).keys() - (before.recall_by_group or {}).keys() == {"recent"}
        assert (after.effort or 0) >= (before.effort or 0)
    (file,) = folder.glob("queries-*")
    assert file.stat().st_size == 100 * DIM * 4
    with Collection.open(folder, None) as again:
        again.compact()
        assert again.stats().why == "it was on disk"
        assert (again.stats().recall_by_group or {}).keys() == (after.recall_by_group or {}).keys()
    file.write_bytes(b"damaged")
    with Collection.open(folder, None) as again:
        again.compact()
        assert again.stats().kind == "hnsw"


def test_a_sample_of_queries_is_bounded_and_follows_what_is_asked():
    recent = RecentQueries(2, keep=True)
    recent.add(np.tile([1.0, 0.0], (40, 1)))
    assert recent.changed
    recent.measured()
    assert not recent.changed
    recent.add(np.tile([1.0, 0.0], (1000, 1)))
    assert len(recent.sample()) == CAPACITY
    recent.add(np.tile([0.0, 1.0], (100_000, 1)))
    assert recent.sample()[:, 1].mean() > 0.8
    silent = RecentQueries(2, keep=False)
    silent.add(np.ones((100, 2)))
    assert len(silent.sample()) == 0
    assert not silent.changed


def test_pieces_are_of_their_texts():
    texts = ["one two three four five six", "東京は日本の首都であり世界最大の都市", "word", "", "  "]
    pieces = pieces_of(texts, np.random.default_rng(0))
    assert len(pieces) == 3
    assert all(piece in text for piece, text in zip(pieces, texts, strict=False))
    assert 2 <= len(pieces[0].split()) <= 4
