"""A greedy soup takes in what makes it better, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tiny import make_checkpoint

from encoder_tools.errors import InputError
from encoder_tools.extraction import extract
from encoder_tools.training.data.examples import read_examples
from encoder_tools.training.recipe import read_recipe
from encoder_tools.training.soup import _RunningMean, soup
from service.cli import cli

RECIPE = 'base = "a"\n[[data]]\nfile = "pairs.csv"\nheld_out = 30\n'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a``; ``noisy`` and ``opposite``, which are ``a`` with the same noise added and taken away."""
    root = tmp_path_factory.mktemp("soup")
    extract(make_checkpoint("t5gemma2", root / "checkpoint"), root / "a")
    tensors = load_file(root / "a" / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    noise = {name: 0.3 * torch.randn(value.shape, generator=generator) for name, value in tensors.items()}
    for name, sign in (("noisy", 1), ("opposite", -1)):
        extract(root / "checkpoint", root / name)
        changed = {key: value + sign * noise[key] for key, value in tensors.items()}
        save_file(changed, root / name / "model.safetensors", metadata={"format": "pt"})
    words = "amber basil cedar daisy ember fern ginger hazel iris jasmine".split()
    rows = [f"{a} and {b},{b} and the {a}" for a in words for b in words if a != b]
    (root / "pairs.csv").write_text("\n".join(["query,document", *rows]) + "\n")
    (root / "recipe.toml").write_text(RECIPE)
    return root


def test_only_what_makes_it_better_is_taken(models: Path):
    candidates = soup(models / "recipe.toml", [models / "noisy", models / "opposite", models / "a"], models / "out")
    best = max(candidate.alone for candidate in candidates)
    assert candidates[0].alone == candidates[0].together == best
    together = best
    for candidate in candidates[1:]:
        assert candidate.taken == (candidate.together > together)
        together = max(together, candidate.together)
    report = json.loads((models / "out" / "soup.json").read_text())["models"]
    assert [row["taken"] for row in report] == [candidate.taken for candidate in candidates]
    taken = [load_file(Path(candidate.model) / "model.safetensors") for candidate in candidates if candidate.taken]
    found = load_file(models / "out" / "model.safetensors")
    for name, value in found.items():
        torch.testing.assert_close(value, torch.stack([row[name] for row in taken]).mean(0))


def test_two_halves_of_one_model_are_the_model(models: Path):
    """The mean of a model with noise and the same model without that noise is the model itself.

    Weights are compared, not figures: ranks of a tiny random model are those of near-equal scores.
    """
    recipe = read_recipe(models / "recipe.toml")
    examples = [read_examples(row, models, recipe.training.seed) for row in recipe.data]
    running_mean = _RunningMean(recipe, examples, [models / name for name in ("noisy", "opposite", "a")])
    halves = running_mean.mean([0, 1])
    for name, value in running_mean.states[2].items():
        torch.testing.assert_close(halves[name], value, atol=1e-6, rtol=1e-5)
    assert any(
        (running_mean.states[0][name] - value).abs().max() > 0.1 for name, value in running_mean.states[2].items()
    )


def test_other_shapes_and_nothing_held_out_are_refused(models: Path, tmp_path: Path):
    extract(make_checkpoint("t5", tmp_path / "checkpoint"), tmp_path / "t5")
    with pytest.raises(InputError, match="not of the shape"):
        soup(models / "recipe.toml", [models / "a", tmp_path / "t5"], tmp_path / "out")
    with pytest.raises(InputError, match="two models"):
        soup(models / "recipe.toml", [models / "a"], tmp_path / "out")
    (models / "none.toml").write_text(RECIPE.replace("held_out = 30", ""))
    with pytest.raises(InputError, match="held_out"):
        soup(models / "none.toml", [models / "a", models / "noisy"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_tells_what_it_took(models: Path, tmp_path: Path):
    arguments = ["soup", str(models / "recipe.toml"), str(tmp_path / "out"), str(models / "a"), str(models / "noisy")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "taken" in done.output
    assert (tmp_path / "out" / "modules.json").is_file()
