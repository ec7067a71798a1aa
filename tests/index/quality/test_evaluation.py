"""Searches measured by judged queries: as trec_eval measures them, with chunks, gaps and advice."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder_tools import OnnxEncoder
from encoder_tools.errors import InputError
from index import Chunking, Collection
from index.quality.evaluation import evaluate_collection
from index.quality.judgments import Judged, read_judged
from index.quality.metrics import measure

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


@given(
    ranking=st.lists(st.sampled_from([f"d{number}" for number in range(30)]), unique=True, max_size=30),
    grades=st.dictionaries(st.sampled_from([f"d{number}" for number in range(40)]), st.integers(0, 3), min_size=1),
)
def test_measures_are_those_of_trec_eval(ranking: list[str], grades: dict[str, int]):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    if not any(grades.values()):
        return
    names = {"ndcg_cut_10", "recall_100", "recip_rank"}
    run = {name: 1000.0 - number for number, name in enumerate(ranking)}
    (theirs,) = pytrec_eval.RelevanceEvaluator({"q": grades}, names).evaluate({"q": run or {"none": 0.0}}).values()
    ours = measure(ranking, grades)
    expected = [theirs["ndcg_cut_10"], theirs["recall_100"], theirs["recip_rank"]]
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def written(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qrels.tsv", "query-id\tcorpus-id\tscore\n1\ta\t2\n1\tb\t0\n2\tc\t1\n"),
        ("qrels.tsv.gz", "query_id\tdoc_id\trelevance\tcode\n1\ta\t2\tx\n1\tb\t0\ty\n2\tc\t1\tz\n"),
        ("qrels.csv", "qid,docid,grade\n1,a,2\n1,b,0\n2,c,1\n"),
        ("qrels.jsonl", '{"qid": "1", "document": "a", "score": 2}\n{"qid": 1, "document": "b", "score": 0}\n'
                        '{"qid": 2, "document": "c"}\n'),
        ("qrels.txt", "1 0 a 2\n1 0 b 0\n\n2 0 c 1\n"),
        ("qrels.test", "1 Q0 a 2\n1 Q0 b 0\n2 Q0 c 1\n"),
    ],
)  # fmt: skip
def test_judgments_are_read_as_they_are_written(name: str, text: str, tmp_path: Path):
    queries = written(
        tmp_path / "queries.jsonl", '{"_id": "1", "text": "x"}\n{"_id": 2, "text": "y"}\n{"_id": 3, "text": "z"}\n'
    )
    judged = read_judged(queries, written(tmp_path / name, text))
    assert judged.queries == {"1": "x", "2": "y"}
    assert judged.relevance == {"1": {"a": 2, "b": 0}, "2": {"c": 1}}
    assert judged.left_out == 1


def test_wrong_judgments_are_named(tmp_path: Path):
    queries = written(tmp_path / "queries.csv", "id,text\n1,x\n")
    for name, text, said in (
        ("a.txt", "1 a 2\n", "has 3 columns, expected 4"),
        ("b.csv", "qid,docid,grade\n1,a,high\n", "'high', expected a number"),
        ("c.csv", "q,docid\n1,a\n", "expected one of query_id"),
        ("d.csv", "qid,docid,grade\n9,a,1\n", "No query of"),
    ):
        with pytest.raises(InputError, match=said):
            read_judged(queries, written(tmp_path / name, text))
    with pytest.raises(InputError, match="expected one of text"):
        read_judged(written(tmp_path / "q.csv", "id,words\n1,x\n"), tmp_path / "a.txt")


def test_a_document_in_chunks_counts_once_and_what_is_missing_is_told(folder: Path):
    encoder = OnnxEncoder()
    with Collection.create(folder, encoder) as collection:
        texts = ["Cards are blocked. " * 30, "Rates are of the day. " * 30, "A PIN has four digits. " * 30]
        collection.upsert([1, 2, 3], texts, chunking=Chunking(32, 0))
        judged = Judged({"a": "blocked card", "b": "exchange rates"}, {"a": {"1": 1, "9": 1}, "b": {"2": 1}})
        result = evaluate_collection(collection, judged, encoder)
        assert (result.queries, result.missing, result.advice) == (2, 1, None)
        for quality in result.quality.values():
            assert quality.recall.mean == 0.75  # each document once, and one of two is not there
            assert quality.reciprocal_rank.mean == 1
            assert quality.ndcg.low <= quality.ndcg.mean <= quality.ndcg.high
        only_words = evaluate_collection(collection, judged, None)
        assert list(only_words.quality) == ["lexical"]


def test_weights_are_chosen_on_one_half_and_checked_on_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Vectors that say nothing, and words that say all: the words must get the weight, and the gain be sure."""
    encoder: Any = OnnxEncoder()
    generator = np.random.default_rng(0)
    with Collection.create(folder, encoder) as collection:
        names = [f"w{number}" for number in range(80)]
        collection.upsert(names, names, vectors=generator.normal(size=(80, encoder.dim)))
        judged = Judged({name: name for name in names}, {name: {name: 1} for name in names})
        noise = generator.normal(size=(80, encoder.dim)).astype(np.float32)
        monkeypatch.setattr(encoder, "encode_query", lambda texts: noise[: len(texts)])
        result = evaluate_collection(collection, judged, encoder)
    assert result.advice is not None
    assert result.advice.dense_weight < 0.5
    assert result.advice.queries < 80
    assert result.advice.gain.mean == pytest.approx(result.advice.ndcg - result.advice.default)
    assert result.quality["lexical"].ndcg.mean == 1
    assert result.quality["dense"].ndcg.mean < 0.5


@pytest.mark.shared
def test_a_public_set_gives_the_figures_that_are_known(tmp_path: Path):
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    from encoder_tools.io.rows import read_rows

    judged = read_judged(SHARED / "cranfield" / "queries.jsonl.gz", SHARED / "cranfield" / "qrels.tsv.gz")
    encoder = OnnxEncoder()
    with Collection.create(tmp_path / "c", encoder) as collection:
        rows = [row for row in read_rows(SHARED / "cranfield" / "corpus.jsonl.gz") if str(row["text"]).strip()]
        collection.upsert([str(row["id"]) for row in rows], [f"{row['title']} {row['text']}" for row in rows])
        result = evaluate_collection(collection, judged, encoder)
    assert result.queries > 180
    assert result.quality["dense"].ndcg.mean > 0.3
    assert result.quality["lexical"].ndcg.mean > 0.3
    assert result.advice is not None
