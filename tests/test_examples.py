"""The examples' recipes run on what lies beside them, and their figures are those of the files beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encoder_tools.training.recipe import read_recipe
from encoder_tools.training.run import train

EXAMPLES = Path(__file__).parents[1] / "examples"
RECIPES = sorted(EXAMPLES.glob("*/recipe.toml"))


def test_there_is_an_example():
    assert RECIPES


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_an_examples_recipe_can_be_run(recipe: Path, tmp_path: Path):
    said: list[str] = []
    trained = train(recipe, tmp_path / "out", work=tmp_path / "work", dry_run=True, log=said.append)
    assert trained.plan.steps > 0
    assert "about" in said[-1]
    for row in read_recipe(recipe).data:
        assert row.license
        assert row.held_out


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_an_examples_page_shows_its_own_figures(recipe: Path):
    page = (recipe.parent / "README.md").read_text(encoding="utf-8")
    figures = json.loads((recipe.parent / "figures.json").read_text(encoding="utf-8"))
    for name, (before, after) in figures["quality"].items():
        assert f"| {name} | {before:.1f} | {after:.1f} |" in page
    assert figures["minutes"] < 15
