"""From files to heads, predictions and reports, over the model that ships."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from head_files import SUBJECTS, rows, run, write_csv

from encoder_tools.errors import InputError
from encoder_tools.io.columns import LabeledColumns
from encoder_tools.io.rejected_rows import RejectedRows
from heads import FittedHead, LinearHead, PrototypeHead, load_head
from heads.estimators.pipeline import Examples, fit_head, split
from heads.evaluation import evaluate
from heads.labeled import leaked, read_labeled
from heads.selection.calibrator import choose_calibration


def test_a_head_of_a_file_promises_and_tells_what_is_out_of_scope(fitted: tuple[Path, str], encoder_default: Any):
    folder, said = fitted
    assert "122 rows" not in said
    assert "120 labeled texts, 2 rows rejected" in said
    assert "with confidence 90%" in said
    put_aside = [json.loads(line) for line in (folder / "head.rejected.jsonl").read_text().splitlines()]
    assert [(line["row"], "empty" in line["reason"]) for line in put_aside] == [(121, True), (122, False)]
    head = load_head(folder / "head", encoder=encoder_default)
    assert head.space
    judged = head.predictions(
        encoder_default.encode(["is my card blocked?", "the mitochondria is the powerhouse of the cell"])
    )
    assert (judged[0].labels[0].label, judged[0].out_of_scope, judged[1].out_of_scope) == ("card", False, True)


def test_predictions_go_on_after_a_kill(fitted: tuple[Path, str], tmp_path: Path):
    folder, _ = fitted
    many = [{"id": str(i), "text": row["text"] if i % 100 else ""} for i, row in enumerate(rows() * 8)]
    file = write_csv(tmp_path / "in.csv", many)
    with file.open("a") as more:
        more.write("only one cell\n")
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    arguments = ("head", "predict", folder / "head", file)
    assert run(*arguments, whole, "--keep", "id").exit_code == 0
    lines = whole.read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [i + 1 for i, row in enumerate(many) if row["text"]]
    assert json.loads(lines[0])["id"] == "1"
    # as if it had been killed in the middle of a line
    from encoder_tools import OnnxEncoder
    from heads.workflows.predict import Job, identity_of, resume

    identity = identity_of(
        file, folder / "head", OnnxEncoder("default"), text=("text",), top=3, cut=False, keep=("id",), split="train"
    )
    job = Job(out, identity, LabeledColumns(("text",), ()), 3, ("id",))
    resume(job)
    job.partial.write_text("".join(line + "\n" for line in lines[:500]) + lines[500][:20])
    (tmp_path / "out.jsonl.rejected.jsonl").write_text("".join(json.dumps({"row": n}) + "\n" for n in (1, 101, 901)))
    result = run(*arguments, out, "--keep", "id")
    assert result.exit_code == 0, result.output
    assert "resuming after row" in result.output
    assert out.read_text().splitlines() == lines
    told = [json.loads(line)["row"] for line in (tmp_path / "out.jsonl.rejected.jsonl").read_text().splitlines()]
    assert told == [1, 101, 601, 701, 801, 901, 961][: len(told)]
    assert sorted({1, 101, *told}) == sorted(told)
    assert not job.partial.exists()


@pytest.mark.parametrize("column", ["row", "label", "probability", "value", "chosen"])
def test_no_column_is_kept_over_a_field_of_the_output(fitted: tuple[Path, str], tmp_path: Path, column: str):
    folder, _ = fitted
    file = write_csv(tmp_path / "in.csv", [{"text": "my card", column: "7"}])
    result = run("head", "predict", folder / "head", file, tmp_path / "out.jsonl", "--keep", column)
    assert f"Column '{column}' cannot be kept" in str(result.exception)
    assert not list(tmp_path.glob("out*"))


def test_a_run_of_another_file_is_not_gone_on_with(fitted: tuple[Path, str], tmp_path: Path):
    folder, _ = fitted
    (tmp_path / "out.jsonl.partial").write_text("")
    (tmp_path / "out.jsonl.partial.json").write_text('{"file": "another"}')
    result = run("head", "predict", folder / "head", write_csv(tmp_path / "in.csv", rows()[:3]), tmp_path / "out.jsonl")
    assert result.exit_code != 0
    assert "begun with another" in str(result.exception)


def test_nothing_is_written_over_what_was_read(fitted: tuple[Path, str], tmp_path: Path):
    folder, _ = fitted
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "my card", "label": "card"}\n')
    before = file.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(file)
    for out in (file, link):
        for arguments in (
            ("predict", folder / "head", file, out),
            ("predict", folder / "head", file, out, "--overwrite"),
            ("report", folder / "head", out, "--test", file),
            ("report", folder / "head", tmp_path / "page.html", "--test", file, "--json", out),
            ("evaluate", folder / "head", file, "--json", out),
        ):
            assert run("head", *arguments).exit_code == 2
    assert file.read_bytes() == before
    out = tmp_path / "out.jsonl"
    assert run("head", "predict", folder / "head", file, out).exit_code == 0
    assert "exists" in run("head", "predict", folder / "head", file, out).output
    assert run("head", "predict", folder / "head", file, out, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a"}], "no column 'label'"),
        ([{"label": "x"}], "no column 'text'"),
        ([{"text": " ", "label": "x"}], "is empty"),
        ([{"text": 3, "label": "x"}], "expected a text"),
        ([{"text": "a", "label": None}], "missing"),
        ([{"text": "a", "label": float("nan")}], "missing"),
        ([{"text": "a", "label": {"b": 1}}], "a dict"),
    ],
)
def test_rows_that_cannot_be_used_are_told(rows: list[dict[str, Any]], message: str):
    from encoder_tools.io.rows import Numbered

    told: list[str] = []
    numbered = [Numbered(place, row) for place, row in enumerate([*rows, {"text": "a", "label": "x"}], 1)]
    found = read_labeled(numbered, LabeledColumns(), lambda number, reason, row: told.append(f"{number}: {reason}"))
    assert (found.texts, found.rows) == (["a"], [2])
    assert len(told) == 1
    assert message in told[0]


def test_labels_of_two_kinds_are_refused():
    from encoder_tools.io.rows import Numbered

    rows = [Numbered(1, {"text": "a", "label": "x"}), Numbered(2, {"text": "b", "label": 1})]
    with pytest.raises(InputError, match="1 texts and 1 numbers"):
        read_labeled(rows, LabeledColumns(), lambda *_: None)


def test_a_second_run_does_not_tell_of_the_same_rows_twice(tmp_path: Path):
    told = tmp_path / "out.rejected.jsonl"
    for _ in range(2):
        first, second = (
            RejectedRows(tmp_path / "out", tmp_path / "a.csv"),
            RejectedRows(tmp_path / "out", tmp_path / "b.csv"),
        )
        first(1, "empty", {"text": ""})
        second(2, "empty", {"text": ""})
    assert [json.loads(line)["row"] for line in told.read_text().splitlines()] == [1, 2]
    RejectedRows(tmp_path / "out", tmp_path / "a.csv", after=1)(1, "again", {})
    assert len(told.read_text().splitlines()) == 2
    RejectedRows(tmp_path / "out", tmp_path / "a.csv")
    RejectedRows(tmp_path / "out", tmp_path / "b.csv")
    assert not told.exists()


def test_several_label_columns_are_levels_or_labels_set_or_not(tmp_path: Path, encoder_default: Any):
    levels = [row | {"part": "money" if row["label"] in ("card", "loan") else "leisure"} for row in rows()]
    file = write_csv(tmp_path / "levels.csv", levels)
    columns = ("--label", "part", "--label", "label")
    result = run("head", "fit", file, tmp_path / "levels", "--estimator", "hierarchical", *columns, "--test", file)
    assert result.exit_code == 0, result.output
    assert load_head(tmp_path / "levels", encoder=encoder_default).labels[0] == "leisure:music"
    refused = run("head", "fit", file, tmp_path / "linear", *columns)
    assert "2 label columns, expected one for kind 'linear'" in str(refused.exception)
    flags = [
        row | {"money": "Yes" if row["part"] == "money" else "", "music": int(row["label"] == "music")}
        for row in levels
    ]
    flags.append(flags[0] | {"music": "perhaps"})
    columns = ("--label", "money", "--label", "music")
    result = run(
        "head", "fit", write_csv(tmp_path / "f.csv", flags), tmp_path / "flags", "--estimator", "multi-label", *columns
    )
    assert result.exit_code == 0, result.output
    assert "1 row rejected" in result.output
    head = load_head(tmp_path / "flags", encoder=encoder_default)
    predictions = head.predictions(encoder_default.encode(["my card was stolen", "will it rain"]))
    assert [prediction.chosen for prediction in predictions] == [
        ("money",), (),
    ]  # fmt: skip


def test_thousands_of_labels_are_refused_where_they_would_fill_the_memory_and_fitted_where_not():
    classes = np.arange(30_000) // 2
    vectors = np.random.default_rng(0).standard_normal((30_000, 4)).astype(np.float32)
    with pytest.raises(InputError, match=r"30000 examples of 15000 classes need 4 GB.*--estimator prototype"):
        LinearHead().fit(vectors, classes)
    made = fit_head(PrototypeHead(), Examples(vectors[:2000], np.arange(2000) // 2), seed=1)
    assert made.head.calibration.method == "temperature"
    report = evaluate(made.head, vectors[:2000], np.arange(2000) // 2)
    assert len(report.confusion) == 1000
    assert sum(map(sum, report.confusion)) == 2000
    wider = FittedHead.linear(vectors[:1001], np.zeros(1001), tuple(range(1001)), None)
    report = evaluate(wider, vectors[:1001], np.roll(np.arange(1001), 1))
    assert report.confusion == []
    assert sum(pair.texts for pair in report.confused) == 30


def test_leaks_are_found_whatever_the_punctuation():
    assert leaked(["Where is my card?", "Hi"], ["where is MY card", "Ho", "hi!"]).tolist() == [0, 2]


def test_every_class_keeps_an_example():
    labels = np.array(["a"] * 50 + ["b"] * 2 + ["c"])
    kept, held = split(Examples(np.arange(53)[:, None].astype(float), labels), 0.2, np.random.RandomState(0))
    assert set(kept.labels) == {"a", "b", "c"}
    assert len(kept.labels) + len(held.labels) == 53
    assert 9 <= (held.labels == "a").sum() <= 11
    assert "c" not in held.labels


def test_one_example_a_label_gives_no_test_of_scope_and_no_bold_calibration(tmp_path: Path, encoder_default: Any):
    few = [{"text": texts.split("|")[0], "label": label} for label, texts in SUBJECTS.items()]
    result = run("head", "fit", write_csv(tmp_path / "few.csv", few), tmp_path / "head")
    assert result.exit_code == 0, result.output
    assert "no test of what is out of scope" in result.output
    head = load_head(tmp_path / "head", encoder=encoder_default)
    assert (head.scope, head.calibration.method) == (None, "temperature")


def test_few_held_out_examples_give_a_temperature_only():
    rng = np.random.RandomState(0)
    targets = rng.randint(3, size=400)
    scores = rng.standard_normal((400, 3)) + np.array([3.0, 0, -3]) + 2 * np.eye(3)[targets]
    assert (
        choose_calibration(scores, targets, rng).method == "platt"
    )  # the biases are wrong, and there are enough to say so
    assert choose_calibration(scores[:40], targets[:40], rng).method == "temperature"


def test_one_label_is_refused_before_anything_is_encoded(tmp_path: Path):
    file = write_csv(tmp_path / "one.csv", [{"text": f"text {i}", "label": "a"} for i in range(5)])
    result = run("head", "fit", file, tmp_path / "head")
    assert result.exit_code != 0
    assert "no label but 'a'" in str(result.exception)
    assert "encoding" not in result.output


def test_a_file_without_a_usable_row_is_named_with_what_was_put_aside(tmp_path: Path):
    file = tmp_path / "bad.jsonl"
    file.write_text("{broken\n[1]\n")
    result = run("head", "fit", file, tmp_path / "head")
    assert result.exit_code != 0
    assert "bad.jsonl can be used, 2 rows rejected" in str(result.exception)
    assert "line 1" in str(result.exception)
    (tmp_path / "empty.csv").write_text("text,label\n")
    assert "It has none." in str(run("head", "fit", tmp_path / "empty.csv", tmp_path / "head").exception)
    assert len((tmp_path / "head.rejected.jsonl").read_text().splitlines()) == 2
