"""Heads of a handful of labels are no more certain than they can be, and no worse than what people use instead."""

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from encoder_tools import OnnxEncoder
from encoder_tools.errors import InputError
from encoder_tools.io.columns import LabeledColumns
from heads import LinearHead, NeighborHead, ZeroShotHead
from heads.estimators.linear import LONG_FIT
from heads.estimators.zero_shot import readable
from service.cli import cli


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder("default")


def blobs(seed: int, classes: int, each: int, spread: float, dim: int = 24) -> tuple[Any, Any]:
    """Overlapping classes of unit vectors around fixed centers."""
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((classes, dim))
    labels = np.repeat(np.arange(classes), each)
    vectors = centers[labels] + spread * generator.standard_normal((len(labels), dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def log_loss(head: Any, vectors: Any, labels: Any) -> float:
    return float(-np.log(head.predict_proba(vectors)[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("classes", [2, 6])
@pytest.mark.parametrize("each", [2, 4, 8, 16])
@pytest.mark.parametrize("spread", [0.7, 2.0, 4.0])
def test_a_few_labels_do_not_ask_for_certainty(classes: int, each: int, spread: float):
    test = blobs(1000, classes, 200, spread)
    ours, theirs = [], []
    for seed in range(6):
        train = blobs(seed, classes, each, spread)
        ours.append(log_loss(LinearHead().fit(*train), *test))
        theirs.append(log_loss(LogisticRegression(C=100, max_iter=2000).fit(*train), *test))
    assert np.mean(ours) <= 1.05 * np.mean(theirs) + 0.01


def test_four_examples(encoder: OnnxEncoder):
    head = LinearHead(encoder).fit(["good one", "nice one", "bad one", "awful one"], ["p", "p", "n", "n"])
    probability = head.predict_proba(["very nice"])[0]
    assert head.predict(["very nice"])[0] == "p"
    assert probability.min() > 0.005
    assert 0.3 < head.temperature_ < 3


@pytest.mark.parametrize("each", [1, 2, 4, 8, 30])
@pytest.mark.parametrize("k", [1, 3, None])
def test_neighbors_are_as_good_as_plain_ones(each: int, k: int | None):
    """Also where all cosines are low: what a far text's neighbors say is all there is."""
    test = blobs(1000, 3, 200, 2.0)
    ours, theirs, shares = [], [], []
    for seed in range(6):
        train = blobs(seed, 3, each, 2.0)
        head = NeighborHead(k=k).fit(*train)
        plain = KNeighborsClassifier(min(head.k_, len(train[0])), metric="cosine").fit(*train)
        ours.append((head.predict(test[0]) == test[1]).mean())
        theirs.append((plain.predict(test[0]) == test[1]).mean())
        shares.append(np.bincount(head.predict(test[0]), minlength=3).max() / len(test[0]))
    assert np.mean(ours) >= np.mean(theirs) - 0.02, (np.mean(ours), np.mean(theirs))
    assert np.mean(shares) < 0.75  # not one class for nearly everything


@pytest.mark.parametrize(
    ("name", "words"),
    [("AddToPlaylist", "Add To Playlist"), ("add_to_playlist", "add to playlist"), ("HTTPError", "HTTP Error"),
     ("card-arrival", "card arrival"), ("a.b/c", "a b c"), ("about GitHub", "about GitHub"), ("__", "__")],
)  # fmt: skip
def test_names_are_read_as_words(name: str, words: str):
    assert readable(name) == words


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_a_zero_shot_head_votes_with_others(encoder: OnnxEncoder, voting: Any):
    texts, labels = ["it rains", "sun shines", "pay the bill", "my bank card"], ["weather", "weather", "money", "money"]
    named = [("names", ZeroShotHead(encoder, ["weather", "money"])), ("examples", LinearHead(encoder))]
    voters = VotingClassifier(named, voting=voting).fit(texts, labels)
    assert voters.predict(["snow and wind", "a credit card"]).tolist() == ["weather", "money"]


def test_a_fit_that_takes_an_hour_is_warned_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("heads.estimators.linear.LONG_FIT", 50)
    with pytest.warns(UserWarning, match="10 classes of 20 examples take a LinearHead an hour"):
        LinearHead(C=1.0).fit(*blobs(0, 10, 2, 0.5))
    assert LONG_FIT > 10**6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LinearHead(C=1.0).fit(*blobs(0, 2, 2, 0.5))


@pytest.mark.parametrize(
    ("many", "lists", "value", "result"),
    [
        (True, True, "['a', 'b']", ("a", "b")), (True, True, '["a", "b"]', ("a", "b")), (True, True, "a,b", ("a", "b")),
        (True, True, "[]", ()), (True, False, "['a', 'b']", "--label-lists"),
        (False, False, "['a']", "--estimator multi"),
        (False, False, ["a"], "--estimator multi-label"), (True, False, ["a", "b"], ("a", "b")),
        (True, True, "[a, b", ("[a", "b")), (True, True, "[a, b]", "no whole list"),
        (False, False, "(maybe)", "(maybe)"),
    ],
)  # fmt: skip
def test_lists_that_are_written_as_text_are_no_labels(many: bool, lists: bool, value: Any, result: Any):
    columns = LabeledColumns(many=many, lists=lists)
    if isinstance(result, str) and result != value:
        with pytest.raises(InputError, match=result):
            columns.label_of({"label": value})
    else:
        assert columns.label_of({"label": value}) == result


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["head", *map(str, arguments)])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("head")
    rows = [
        ("it rains", "Weather"),
        ("the sun", "weather"),
        ("my bill", "money"),
        ("a card", "money"),
        ("x", "NA"),
        ("y", "NA"),
    ]
    (folder / "train.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    done = run("fit", folder / "train.csv", folder / "head", "--no-scope")
    assert done.exception is None, done.output
    assert "labels 'Weather' and 'weather' differ in letter case" in done.output
    assert "'NA' is taken as a label (2 examples)" in done.output
    return folder


@pytest.mark.parametrize("name", ["out.csv", "out.TSV", "out.jsonl", "out.parquet"])
def test_predictions_are_what_their_name_says(fitted: Path, tmp_path: Path, name: str):
    (tmp_path / "in.csv").write_text('id,text\n1,"rain, snow"\n2,a bill\n')
    done = run("predict", fitted / "head", tmp_path / "in.csv", tmp_path / name, "--keep", "id")
    assert done.exception is None, done.output
    path = tmp_path / name
    if name.endswith("jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    elif name.endswith("parquet"):
        rows = pyarrow.parquet.read_table(path).to_pylist()
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t" if "TSV" in name else ","))
        assert json.loads(rows[0]["labels"])[0][0] == rows[0]["label"]
    assert [str(row["row"]) for row in rows] == ["1", "2"]
    assert [row["id"] for row in rows] == ["1", "2"]
    assert rows[1]["label"] == "money"
    assert not list(tmp_path.glob("*.partial*"))


def test_what_cannot_be_predicted_is_told_before(fitted: Path, tmp_path: Path):
    (tmp_path / "in.csv").write_text("id,text\n1,rain\n")
    for out, keep, says in (
        ("a.jsonl", "nowhere", "no column 'nowhere' to keep, it has id, text"),
        ("a.txt", "id", "no known kind"),
    ):
        done = run("predict", fitted / "head", tmp_path / "in.csv", tmp_path / out, "--keep", keep)
        assert says in str(done.exception)
    assert not list(tmp_path.glob("a.*"))
