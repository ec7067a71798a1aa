"""What the README, the guides and the docstrings show runs as it stands there."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from test_architecture import FILES, name_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_ELSEWHERE = {"clients.md", "engines.md"}  # against a server, by test_clients.py and test_postgres.py
WITH_EXAMPLES = [name_of(file) for file in FILES if "    >>> " in file.read_text(encoding="utf-8")]
PUBLIC = {
    "encoder_tools": ("extract", "train", "distill", "export", "evaluate", "OnnxEncoder", "OnnxCrossEncoder"),
    "heads": (
        *("LinearHead", "PrototypeHead", "NeighborHead", "MLPHead", "HierarchicalHead", "MultiLabelHead"),
        *("RegressionHead", "ZeroShotHead", "FittedHead"),
        *("fit_head", "evaluate_head", "predict_file", "classify", "predict_all", "save_head", "load_head"),
    ),
    "index": ("Collection", "Chunking", "Splitter"),
}
VERBS_OF_COLLECTION = ("create", "open", "search", "upsert", "delete")
BY_EXAMPLE_OF_THE_GUIDES = {"encoder_tools.train", "encoder_tools.distill", "encoder_tools.OnnxCrossEncoder"}
"""A run takes minutes, or a folder that a docstring cannot make; the guides and examples/ show these."""


def blocks(language: str, page: Path) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


WITH_PYTHON = [page for page in PAGES if blocks("python", page) and page.name not in RUN_ELSEWHERE]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path):
    for script in blocks("python", page):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout, "an example that prints nothing shows nothing"


def test_the_readme_prints_what_it_says(tmp_path: Path):
    (script,) = blocks("python", ROOT / "README.md")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(1, 384)", "The cat sat on the mat.", "card"]


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_bytes()) <= 8000


@pytest.mark.parametrize("page", [page for page in PAGES if blocks("sh", page)], ids=lambda page: page.name)
def test_every_command_of_a_page_exists_with_its_options(page: Path):
    from service.cli import cli

    context = cli.make_context("encoder-tools", ["info"])
    for name, rest in re.findall(r"^encoder-tools (\w+)((?: [^\n`#]*)?)", "\n".join(blocks("sh", page)), re.MULTILINE):
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            command = command.get_command(context, rest.split()[0])
        assert command is not None, f"{name} {rest}"
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z][\w-]*", rest)) <= known, f"{name} {rest}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text) + re.findall(r'(?:src|srcset)="(?!https?:)([^"]+)"', text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    documents = re.findall(r"\{doc\}`([^`<]+)`", text)
    assert [d for d in documents if not [*page.parent.glob(f"{d}.md"), *page.parent.glob(f"{d}.rst")]] == []


def test_the_recipe_of_the_guide_is_one(tmp_path: Path):
    from encoder_tools.distillation.recipe import read_recipe

    (recipe,) = blocks("toml", ROOT / "docs" / "guides" / "distill.md")
    (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml").texts.held_out == 1000


def test_every_target_of_make_that_is_named_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = re.findall(r"\bmake ([a-z-]+)\b", "\n".join(block for page in PAGES for block in blocks("sh", page)))
    assert set(named) <= targets


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_docstrings_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for number, example in enumerate(doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))):
        if not example.examples:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)  # each example begins in an empty folder, as a reader does
        printed: list[str] = []
        failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=printed.append).failed
        assert not failed, "".join(printed)


@pytest.mark.parametrize(("package", "name"), [(p, name) for p, names in PUBLIC.items() for name in names])
def test_a_public_verb_has_a_reference_with_an_example(package: str, name: str):
    thing = getattr(importlib.import_module(package), name)
    text = thing.__doc__ or ""
    if not isinstance(thing, type):
        assert ":param" in text or ":return" in text or ":ivar" in text, "no parameter section"
        assert ":raises" in text, "no errors"
    if f"{package}.{name}" not in BY_EXAMPLE_OF_THE_GUIDES:
        assert ">>> " in text or any(
            ">>> " in (vars(thing)[m].__doc__ or "") for m in vars(thing) if callable(vars(thing)[m])
        )


@pytest.mark.parametrize("name", VERBS_OF_COLLECTION)
def test_a_verb_of_collections_has_a_reference_with_an_example(name: str):
    from index import Collection

    text = getattr(Collection, name).__doc__ or ""
    assert ":param" in text
    assert ":raises" in text
    assert ">>> " in text
