"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADS = (ROOT / "docs" / "heads.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_python_of_the_readme_runs_and_prints_what_it_should(tmp_path: Path):
    (script,) = [block for block in blocks("python") if "OnnxEncoder" in block]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0] == "The cat sat on the mat."
    assert "label='card'" in printed[1]


def test_the_python_of_the_page_on_heads_runs(tmp_path: Path):
    (script,) = blocks("python", HEADS)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "label='card'" in done.stdout


def test_every_command_of_the_readme_is_one_that_exists():
    from service.cli import cli

    context = cli.make_context("encoder-tools", ["info"])
    used = re.findall(r"encoder-tools (\w+)((?: [^\n`#]*)?)", "\n".join(blocks("sh") + blocks("sh", HEADS)))
    assert {name for name, _ in used} == {"extract", "export", "head", "index", "info", "serve", "train"}
    for name, rest in used:
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            command = command.get_command(context, rest.split()[0])
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known


def test_the_recipe_of_the_readme_is_one(tmp_path: Path):
    from encoder_tools.distillation.recipe import read_recipe

    (recipe,) = blocks("toml")
    (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml").texts.held_out == 1000


def test_every_target_of_make_that_the_readme_names_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z-]+)\b", "\n".join(blocks("sh")))) <= targets
