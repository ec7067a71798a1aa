"""Earlier names work for one version, with a warning."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import heads
from encoder_tools import OnnxEncoder
from index import Collection
from service.cli import cli


@pytest.mark.parametrize(
    ("earlier", "current"),
    [("Judgement", "Prediction"), ("judge_all", "predict_all"), ("NeighbourHead", "NeighborHead")],
)
def test_names_of_heads(earlier: str, current: str):
    with pytest.warns(DeprecationWarning, match=current):
        assert getattr(heads, earlier) is getattr(heads, current)


def test_verbs(tmp_path: Path):
    head = heads.LinearHead().fit(np.eye(4, dtype=np.float32), [0, 0, 1, 1]).to_fitted()
    with pytest.warns(DeprecationWarning, match="predictions"):
        assert head.judge(np.eye(4)) == head.predictions(np.eye(4))
    with (
        Collection.create(tmp_path / "c", OnnxEncoder()) as collection,
        pytest.warns(DeprecationWarning, match="projection"),
    ):
        assert collection.layout().ids == []


@pytest.mark.parametrize(
    ("arguments", "current"),
    [
        (
            ["head", "fit", "a.csv", "b", "--kind", "linear", "--most-errors", "0.1"],
            ("--estimator", "--max-error-rate"),
        ),
        (["head", "fit", "a.csv", "b", "--answers=0.9", "--adapted", "c"], ("--min-coverage", "--adapted-model")),
        (["head", "predict", "a", "b.csv", "c.csv", "--cut"], ("--truncate",)),
        (["extract", "a", "b", "--layout", "gemma3"], ("--key-layout",)),
        (["evaluate", "default", "--beside", "default"], ("--compare-with",)),
        (["mark", "a", "--space-of", "b", "--texts", "c.txt"], ("agreement",)),
    ],
)
def test_options_and_commands(
    arguments: list[str], current: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code != 0  # there are no such files
    assert "No such option" not in result.output
    for name in current:
        assert f"is called {name} now" in result.output


def test_behind_two_dashes_nothing_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["head", "predict", "a", "b.csv", "--", "--cut"])
    assert "is called" not in result.output
    assert "--truncate" not in result.output


def test_the_command_line_offers_every_estimator():
    from heads.workflows.fit import ESTIMATORS
    from service.cli.head_commands.fit import fit

    (option,) = [parameter for parameter in fit.params if parameter.name == "estimator"]
    assert isinstance(option.type, click.Choice)
    assert set(option.type.choices) == set(ESTIMATORS)


def test_an_old_key_of_a_recipe_is_told_what_to_do(tmp_path: Path):
    from encoder_tools.distillation.recipe import read_recipe
    from encoder_tools.errors import InputError

    (tmp_path / "r.toml").write_text('teacher = "x"\n[texts]\ncorpus = "data"\n[training]\nsteps = 1\n')
    with pytest.raises(InputError, match=r"recipes\.default_model\.corpus"):
        read_recipe(tmp_path / "r.toml")


def test_help_shows_no_earlier_name_and_fits_on_a_line():
    for command in ([], ["head"], ["index"]):
        lines = CliRunner().invoke(cli, [*command, "--help"], terminal_width=80).output.splitlines()
        assert not [line for line in lines[1:] if line.rstrip().endswith("...")]
    shown = CliRunner().invoke(cli, ["head", "fit", "--help"]).output
    assert "--most-errors" not in shown
