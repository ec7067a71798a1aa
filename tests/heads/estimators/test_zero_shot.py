"""Labels by their descriptions, and what examples add to them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from head_files import run
from scipy.optimize import check_grad
from sklearn.base import clone

from encoder_tools.errors import InputError
from encoder_tools.vectors import unit_rows
from heads import LinearHead, ZeroShotHead, load_head
from heads.estimators.zero_shot import fit_around
from service.cli import cli

TOPICS = {"sport": "football, tennis and other sports", "money": "banks, prices and the economy", "science": "research"}
TEXTS = ["the goalkeeper saved a penalty", "inflation and interest rates rise", "physicists measured the particle"]


def test_descriptions_alone_are_a_head(encoder_default: Any, tmp_path: Path):
    head = ZeroShotHead(encoder_default, TOPICS).fit()
    assert head.predict(TEXTS).tolist() == ["sport", "money", "science"]
    (tmp_path / "d.json").write_text(json.dumps(TOPICS))
    arguments = ["head", "describe", str(tmp_path / "d.json"), str(tmp_path / "head")]
    assert CliRunner().invoke(cli, arguments, catch_exceptions=False).exit_code == 0
    loaded = load_head(tmp_path / "head", encoder=encoder_default)
    assert loaded.predict(encoder_default.encode(TEXTS)).tolist() == ["sport", "money", "science"]
    assert loaded.space


def test_few_examples_do_not_make_it_forget_a_label_without_any(encoder_default: Any):
    head = ZeroShotHead(encoder_default, TOPICS).fit(["the striker scored", "shares fell"], ["sport", "money"])
    assert head.classes_.tolist() == ["money", "science", "sport"]
    assert head.predict(TEXTS).tolist() == ["sport", "money", "science"]


def test_many_examples_win_over_a_wrong_description(encoder_default: Any):
    rng = np.random.default_rng(0)
    wrong = {"sport": TOPICS["money"], "money": TOPICS["sport"]}
    rows = encoder_default.encode(TEXTS[:2])
    noise = rng.standard_normal((400, rows.shape[1])).astype(np.float32) / 40
    vectors = unit_rows(np.repeat(rows, 200, axis=0) + noise)
    labels = np.repeat(["sport", "money"], 200)
    none, many = ZeroShotHead(encoder_default, wrong).fit(), ZeroShotHead(encoder_default, wrong).fit(vectors, labels)
    assert none.predict(TEXTS[:2]).tolist() == ["money", "sport"]
    assert many.predict(TEXTS[:2]).tolist() == ["sport", "money"]


def test_drawn_to_nothing_it_is_logistic_regression():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200, 6))
    targets = x[:, :3].argmax(axis=1)
    coef, bias = fit_around(np.zeros((3, 6)), x, targets, np.ones(200), 1.0)
    theirs = LinearHead(C=1.0, tol=1e-8).fit(x, targets)
    np.testing.assert_allclose(
        x @ (coef - coef.mean(axis=0)).T, x @ (theirs.coef_ - theirs.coef_.mean(axis=0)).T, atol=0.3
    )
    assert ((x @ coef.T + bias).argmax(axis=1) == theirs.predict(x)).mean() > 0.97


def test_the_slope_is_that_of_the_loss(monkeypatch: pytest.MonkeyPatch):
    from heads.estimators import zero_shot

    rng = np.random.default_rng(2)
    x, start = rng.standard_normal((20, 4)), rng.standard_normal((3, 4))
    targets, shares = rng.integers(0, 3, 20), rng.random(20)
    seen: list[Any] = []
    original = zero_shot.minimize
    monkeypatch.setattr(zero_shot, "minimize", lambda loss, *a, **k: seen.append(loss) or original(loss, *a, **k))
    fit_around(start, x, targets, shares, 2.0)
    loss = seen[0]
    assert check_grad(lambda p: loss(p)[0], lambda p: loss(p)[1], rng.standard_normal(15)) < 1e-5


@pytest.mark.parametrize(
    ("descriptions", "template", "message"),
    [
        (None, "{}", "NoneType"),
        ({}, "{}", "fewer than two"),
        ({"a": "b"}, "{}", "fewer than two"),
        (["a", "b"], "x", "template"),
    ],
)
def test_bad_descriptions_are_refused(encoder_default: Any, descriptions: Any, template: str, message: str):
    with pytest.raises(InputError, match=message):
        ZeroShotHead(encoder_default, descriptions, template=template).fit()


def test_clones_are_fitted_alike(encoder_default: Any):
    head = ZeroShotHead(encoder_default, list(TOPICS)).fit(TEXTS * 4, list(TOPICS) * 4)
    again = clone(head).fit(TEXTS * 4, list(TOPICS) * 4)
    np.testing.assert_array_equal(head.predict_proba(TEXTS), again.predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "fewer than two"),
        ({}, "fewer than two"),
        (["only"], "fewer than two"),
        ({"a": " ", "b": "x"}, "'a' is empty"),
        ({"a": 1, "b": "x"}, "Expected"),
        ("text", "Expected"),
    ],
)
def test_descriptions_that_cannot_be_used_are_refused(content: Any, message: str, tmp_path: Path):
    (tmp_path / "d.json").write_text(json.dumps(content))
    result = run("head", "describe", tmp_path / "d.json", tmp_path / "head")
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert not (tmp_path / "head").exists()


def test_a_list_of_labels_describes_itself(encoder_default: Any, tmp_path: Path):
    (tmp_path / "d.json").write_text('["football", "banking"]')
    assert run("head", "describe", tmp_path / "d.json", tmp_path / "head").exit_code == 0
    head = load_head(tmp_path / "head", encoder=encoder_default)
    assert head.predict(encoder_default.encode(["the goalkeeper saved a penalty"])).tolist() == ["football"]
    (tmp_path / "t.csv").write_text("text,label\na,x\nb,y\n")
    refused = run("head", "fit", tmp_path / "t.csv", tmp_path / "h2", "--descriptions", tmp_path / "d.json")
    assert "--estimator zero-shot" in refused.output
    with pytest.raises(InputError, match="a number, the first one a string"):
        ZeroShotHead(encoder_default, {"a": "x", 1: "y"}).fit()
