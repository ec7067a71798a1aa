"""Figures and pages of heads, over the model that ships."""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from head_files import rows, run, write_csv

from encoder_tools.errors import InputError
from heads import FittedHead, LinearHead, PrototypeHead
from heads.evaluation import evaluate, evaluate_many, evaluate_numbers, examine
from heads.serving.scorers import Linear


def test_evaluating_says_what_was_learned_by_heart(fitted: tuple[Path, str], tmp_path: Path):
    folder, _ = fitted
    test = write_csv(tmp_path / "test.csv", [*rows()[:60], {"text": "quantum field theory", "label": "physics"}])
    result = run(
        "head", "evaluate", folder / "head", test, "--train", folder / "train.csv", "--json", tmp_path / "f.json"
    )
    assert result.exit_code == 0, result.output
    assert "60 of 61 texts" in result.output
    figures = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert figures["accuracy"] > 0.95
    assert (figures["tested"], figures["scope"]["rejected"]) == ({"texts": 61, "out_of_scope": 1, "leaked": 60}, 1.0)


def test_the_report_is_one_page_that_runs_nothing(fitted: tuple[Path, str], tmp_path: Path):
    folder, _ = fitted
    hostile = [*rows(), {"text": "<script>alert(1)</script> card", "label": "loan"}]
    train = write_csv(tmp_path / "train.csv", hostile)
    pool = write_csv(tmp_path / "pool.csv", [{"text": "card or loan?"}, {"text": "rainy songs"}])
    page, found = tmp_path / "r.html", tmp_path / "r.json"
    arguments = (
        "head",
        "report",
        folder / "head",
        page,
        "--train",
        train,
        "--test",
        folder / "held.csv",
        "--pool",
        pool,
    )
    result = run(*arguments, "--json", found)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    examples = json.loads(found.read_text())["examples"]
    assert examples["suspects"][0]["place"] == len(hostile) - 1
    assert {entry["place"] for entry in examples["following"]} == {0, 1}


def test_any_number_of_labels_from_a_file_to_a_page(tmp_path: Path):
    many = [row | {"label": row["label"] + (";urgent" if "urgent" in row["text"] else "")} for row in rows()]
    file = write_csv(tmp_path / "many.csv", many)
    fit = run("head", "fit", file, tmp_path / "head", "--estimator", "multi-label", "--separator", ";", "--test", file)
    assert fit.exit_code == 0, fit.output
    assert "micro F1" in fit.output
    result = run(
        "head", "report", tmp_path / "head", tmp_path / "page.html", "--test", file, "--separator", ";", "--json",
        tmp_path / "page.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "page.json").read_text())["figures"]
    assert figures["micro_f1"] > 0.95
    assert {entry["label"]: entry["texts"] for entry in figures["classes"]}["urgent"] == 20
    page = (tmp_path / "page.html").read_text()
    assert "Micro F1" in page
    assert ">urgent<" in page
    refused = run("head", "report", tmp_path / "head", tmp_path / "page.html", "--train", file)
    assert "Leave --train out" in str(refused.exception)
    assert "for one label of several" in str(
        run("head", "fit", file, tmp_path / "h2", "--estimator", "multi-label", "--max-error-rate", "0.1").exception
    )


def test_numbers_from_a_file_to_a_page(tmp_path: Path):
    words = ("terrible", "bad", "okay", "good", "excellent")
    stars = [
        {"text": f"{w} {thing} {n}", "label": i}
        for i, w in enumerate(words)
        for thing in ("film", "hotel")
        for n in range(8)
    ]
    file = write_csv(tmp_path / "stars.csv", stars)
    assert run("head", "fit", file, tmp_path / "head", "--estimator", "regression").exit_code == 0
    result = run("head", "evaluate", tmp_path / "head", file, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "f.json").read_text())["figures"]["mean_absolute_error"] < 0.5
    assert run("head", "report", tmp_path / "head", tmp_path / "page.html", "--test", file).exit_code == 0
    assert "Rank correlation" in (tmp_path / "page.html").read_text()
    wrong = write_csv(tmp_path / "wrong.csv", [*stars[:3], {"text": "so so", "label": "three"}])
    for arguments in (
        ("fit", wrong, tmp_path / "h2", "--estimator", "regression"),
        ("evaluate", tmp_path / "head", wrong),
    ):
        assert "'three' is no finite number" in str(run("head", *arguments).exception)


def test_figures_of_any_number_of_labels_are_counted_by_hand():
    head = FittedHead(Linear(np.eye(3), np.zeros(3)), ("a", "b", "c"), None, link="sigmoid", thresholds=np.full(3, 0.6))
    vectors = np.array([[2.0, 2, -2], [2, -2, -2], [-2, -2, 2], [-2, -2, -2]])
    found = evaluate_many(head, vectors, [("a", "b"), ("b",), ("c", "unknown"), ("unknown",)], leaked=1)
    assert (found.micro_precision, found.micro_recall) == (3 / 4, 3 / 6)  # a, b, a?, c; missed: b and the unknown twice
    assert found.micro_f1 == pytest.approx(2 * 3 / (4 + 6))
    assert (found.exact, astuple(found.tested)) == (1 / 4, (4, 1, 1))
    assert [(c.label, c.precision, c.recall, c.texts) for c in found.classes] == [
        ("a", 0.5, 1.0, 1), ("b", 1.0, 0.5, 2), ("c", 1.0, 1.0, 1),
    ]  # fmt: skip
    assert found.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    with pytest.raises(InputError, match="None of the labels"):
        evaluate_many(head, vectors[:1], [("z",)])
    one = FittedHead(Linear(np.eye(1), np.zeros(1)), ("value",), None, link="identity")
    flat = evaluate_numbers(one, np.array([[1.0], [3.0]]), [1, 1])
    assert (flat.mean_absolute_error, flat.r2, flat.spearman) == (1.0, None, None)
    assert evaluate_numbers(one, np.array([[1.0], [3.0]]), [1, 3]).r2 == 1.0
    for measure, wrong in ((evaluate, head), (evaluate_many, one), (evaluate_numbers, head)):
        with pytest.raises(InputError, match="expected one that"):
            measure(wrong, vectors, ["a"] * 4)


def test_a_flood_of_equal_texts_with_different_labels_gives_a_hundred_pairs():
    vectors = np.tile(np.array([[0.6, 0.8]], np.float32), (3000, 1))
    vectors[0] = (0.8, 0.6)
    found = examine(PrototypeHead(), vectors, np.arange(3000) % 2).duplicates
    assert len(found) == 100
    assert min(pair.cosine for pair in found) > 0.999
    assert all((pair.first - pair.second) % 2 for pair in found)


def test_flipped_labels_and_disagreeing_twins_are_suspected(encoder_default: Any):

    texts, labels = [row["text"] for row in rows()], np.array([row["label"] for row in rows()])
    flipped = np.array([3, 40, 77, 110])
    wrong = labels.copy()
    wrong[flipped] = np.roll(np.unique(labels), 1)[np.searchsorted(np.unique(labels), labels[flipped])]
    found = examine(LinearHead(), encoder_default.encode(texts), wrong)
    assert {suspect.place for suspect in found.suspects[:4]} == set(flipped.tolist())
    assert any(pair.first in flipped or pair.second in flipped for pair in found.duplicates)
    head = LinearHead().fit(encoder_default.encode(texts), labels).to_fitted()
    assert evaluate(head, encoder_default.encode(texts), labels).accuracy > 0.98
