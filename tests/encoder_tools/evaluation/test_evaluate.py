"""Evaluation sets from files, at every width, of one model or two; the same figures from torch and ONNX."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools.errors import FileCorruptError, FileMissingError
from encoder_tools.evaluation.evaluate import evaluate
from encoder_tools.evaluation.metrics import clustering_quality, full_accuracy
from encoder_tools.evaluation.tasks import PUBLIC_SETS, Task, public_tasks, read_retrieval
from encoder_tools.model.shipped import model_path
from encoder_tools.protocols import FloatMatrix
from service.cli import main

SHARED = Path(__file__).parents[4] / "shared" / "data"


class WordCounts:
    """Unit vectors of letter counts: like texts are near each other, and figures can be checked by hand."""

    dim, fingerprint = 26, "letters"

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        rows = [[text.lower().count(chr(97 + place)) + 1e-3 for place in range(26)] for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    encode_query = encode_document = encode


class Reversed(WordCounts):
    def encode_document(self, texts: Sequence[str]) -> FloatMatrix:
        return self.encode(texts)[::-1]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    pairs = [("aab", "aab", 5), ("aab", "abb", 3), ("aab", "zzz", 0), ("cat", "act", 5)]
    lines(tmp_path / "pairs.jsonl", [{"sentence1": a, "sentence2": b, "score": score} for a, b, score in pairs])
    rows = [{"text": letter * count, "label": letter} for letter in "abc" for count in range(1, 12)]
    (tmp_path / "letters").mkdir()
    for split in ("train", "test"):
        lines(tmp_path / "letters" / f"{split}.jsonl.gz", rows)
    (tmp_path / "find").mkdir()
    documents = [
        {"id": n, "title": "t" if n else None, "text": letter * 5} for n, letter in enumerate("abcdefghijklmn")
    ]
    lines(tmp_path / "find" / "corpus.jsonl", documents)
    lines(
        tmp_path / "find" / "queries.jsonl.gz",
        [{"id": "q1", "text": "bbb"}, {"id": "q2", "text": "c"}, {"id": "x", "text": "z"}],
    )
    (tmp_path / "find" / "qrels.tsv").write_text("query_id\tdoc_id\trelevance\nq1\t1\t2\nq1\t3\t1\nq2\t0\t1\n")
    return tmp_path


def values(figures: list[Any]) -> dict[tuple[str, int], float]:
    return {(figure.measure, figure.dim): figure.value for figure in figures}


def test_every_kind_of_set_is_measured_at_every_width(sets: Path):
    found = values(evaluate(WordCounts(), Task("s", "sts", sets / "pairs.jsonl"), dims=[2, 26, 99]))
    assert set(found) == {("spearman", 26), ("spearman", 2)}
    assert found["spearman", 26] == pytest.approx(1.0, abs=0.06)  # two pairs of score 5 tie
    found = values(evaluate(WordCounts(), Task("c", "classification", sets / "letters"), dims=[1]))
    assert found["accuracy (8 a label)", 26] == found["accuracy (all)", 26] == 1.0
    assert found["accuracy (all)", 1] < 0.7  # one number cannot tell three letters apart
    found = values(evaluate(WordCounts(), Task("k", "clustering", sets / "letters" / "test.jsonl.gz")))
    assert found["v-measure", 26] == 1.0


def test_retrieval_by_hand(sets: Path):
    task = Task("r", "retrieval", sets / "find")
    read = read_retrieval(task)
    assert (len(read.queries), len(read.documents)) == (2, 14)  # the third query was never judged
    assert read.documents[:2] == ["aaaaa", "t bbbbb"]
    assert read.relevant == [{1: 2, 3: 1}, {0: 1}]
    found = values(evaluate(WordCounts(), task))
    assert found["mrr@10", 26] >= 0.5
    assert found["recall@100", 26] == 1.0
    swapped = values(evaluate(WordCounts(), task, documents=Reversed()))
    assert swapped["mrr@10", 26] < found["mrr@10", 26]


@pytest.mark.parametrize(
    ("file", "content", "error", "says"),
    [
        ("find/corpus.jsonl", "{}\n", FileCorruptError, "line 1: .*id"),
        ("find/corpus.jsonl", "", FileCorruptError, "is empty"),
        ("find/corpus.jsonl", '{"id": 1, "text": 5}', FileCorruptError, "line 1"),
        ("find/qrels.tsv", "query_id\tdoc_id\trelevance\nq1\t1\tmuch\n", FileCorruptError, "line 2"),
        ("find/qrels.tsv", "a\tb\n1\t2\n", FileCorruptError, "Expected query_id, doc_id, relevance"),
        ("find/qrels.tsv", "query_id\tdoc_id\trelevance\nq1\tnobody\t1\n", FileCorruptError, "'nobody'"),
        ("find/queries.jsonl.gz", "not gzip", FileCorruptError, "not a whole gzip"),
        ("find/queries.jsonl.gz", None, FileMissingError, "queries"),
    ],
)
def test_a_set_that_is_not_of_its_shape_is_one_clear_error(
    sets: Path, file: str, content: str | None, error: type[Exception], says: str
):
    (sets / file).unlink() if content is None else (sets / file).write_text(content)
    with pytest.raises(error, match=says):
        evaluate(WordCounts(), Task("r", "retrieval", sets / "find"))


def test_clusters_and_classes_of_vectors_that_hold_them():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((300, 6)).astype(np.float32)
    labels = [str(int(row[0] > 0) + 2 * int(row[1] > 0)) for row in vectors]
    assert 0.05 < clustering_quality(vectors, labels) < 0.5  # two of six directions tell them apart
    assert full_accuracy(vectors[:200], labels[:200], vectors[200:], labels[200:]) > 0.85
    corners = np.eye(4, dtype=np.float32)[list(map(int, labels))]
    assert clustering_quality(corners, labels) == pytest.approx(1)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_the_command_prints_a_table_and_writes_json(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, out, _ = command(
        capsys, "default", "--sts", sets / "pairs.jsonl", "--retrieval", sets / "find", "--dims", "64,128",
        "--documents-model", "default", "--json", tmp_path / "figures.json",
    )  # fmt: skip
    assert code == 0
    header, *rows = out.splitlines()
    assert header.split() == ["set", "measure", "width", "default"]
    assert [line.split()[:2] for line in rows[:3]] == [["pairs", "spearman"]] * 3
    written = json.loads((tmp_path / "figures.json").read_text())
    (model,) = written["models"]
    assert len(model["figures"]) == len(rows) == 3 + 3 * 4
    assert {figure["dim"] for figure in model["figures"]} == {64, 128, 384}
    assert written["documents_fingerprint"] == model["fingerprint"]


def test_two_models_are_shown_beside_each_other_and_drawn(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "texts.txt").write_text("A cat.\n\nA dog.\n", encoding="utf-8")
    code, out, _ = command(
        capsys, "default", "--compare-with", model_path("default"), "--sts", sets / "pairs.jsonl", "--dims", "64",
        "--agreement", tmp_path / "texts.txt", "--documents-model", "default",
        "--json", tmp_path / "figures.json", "--plot", tmp_path / "figures.png",
    )  # fmt: skip
    assert code == 0
    header, *rows = out.splitlines()
    assert header.split() == ["set", "measure", "width", "default", "default"]
    assert len(rows) == 2 + 2 * 2
    assert all(line.split()[-1] == line.split()[-2] for line in rows)
    assert {line.split()[-1] for line in rows if "cosine" in line} == {"100.00"}
    assert [entry["model"] for entry in json.loads((tmp_path / "figures.json").read_text())["models"]] == [
        "default",
        str(model_path("default")),
    ]
    assert (tmp_path / "figures.png").read_bytes().startswith(b"\x89PNG")


def test_agreement_needs_another_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "texts.txt").write_text("A cat.\n", encoding="utf-8")
    code, _, err = command(capsys, "default", "--agreement", tmp_path / "texts.txt")
    assert (code, "--documents-model" in err) == (1, True)
    (tmp_path / "texts.txt").write_bytes(b"\xff\xfe\n")
    code, _, err = command(capsys, "default", "--agreement", tmp_path / "texts.txt", "--documents-model", "default")
    assert (code, "UTF-8" in err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["default"], "Nothing to measure"),
        (["default", "--set", "scifact"], "--set needs --data"),
        (["default", "--data", ".", "--set", "nothing"], "no public set 'nothing'"),
        (["default", "--sts", "x", "--dims", "a,b"], "positive widths"),
        (["default", "--sts", "x", "--compare-with", "default"], "itself"),
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    code, _, err = command(capsys, *arguments)
    assert (code, says in err) == (2, True)


def test_torch_and_onnx_give_the_same_figures(tmp_path: Path, sets: Path, capsys: pytest.CaptureFixture[str]):
    from tiny import make_checkpoint

    from encoder_tools.extraction import extract
    from encoder_tools.onnx_export import export

    extract(make_checkpoint("t5", tmp_path / "checkpoint"), tmp_path / "model")
    export(tmp_path / "model")
    outputs = [
        command(
            capsys, tmp_path / "model", "--sts", sets / "pairs.jsonl", "--classification", sets / "letters", *torch
        )[1]
        for torch in ([], ["--torch"])
    ]
    assert outputs[0] == outputs[1]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data folder ../shared/data")
def test_every_public_set_is_there():
    for task in public_tasks(SHARED):
        assert task.name in PUBLIC_SETS
        if task.kind == "retrieval":
            read = read_retrieval(task)
            assert all(any(gain > 0 for gain in gains.values()) for gains in read.relevant)
