"""Runs that cannot go on, for a loss that is not finite or a full disk: the last good state stays, to go on from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from encoder_tools.errors import InputError, TrainingError
from encoder_tools.training.run import train
from tests.encoder_tools.training.test_train import RECIPE, base, root, same_bits

__all__ = ["base", "root"]  # fixtures

SHORT = RECIPE.replace("epochs = 4", "steps = 6").replace("save_every = 4", "save_every = 1")
FULL_DISK = """
import resource, signal, sys
from encoder_tools.errors import SaveError
from encoder_tools.training.run import train
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
try:
    train("recipe.toml", "full", work="work-full")
except SaveError as error:
    print(error)
    sys.exit(7)
"""


def run(root: Path, name: str, recipe: str = SHORT, **options: Any) -> Any:
    (root / "recipe.toml").write_text(recipe)
    return train(root / "recipe.toml", root / name, work=root / f"work-{name}", **options)


@pytest.mark.parametrize("tokens", [64, 100_000])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(root: Path, tokens: int):
    """Whether a step is computed in many parts or in one."""
    recipe = SHORT.replace("tokens = 256", f"tokens = {tokens}").replace("3e-3", "1e25")
    with pytest.raises(TrainingError, match=r"At step \d+ the loss is .*nan.* begins with rows \["):
        run(root, "out", recipe)
    assert not (root / "out").exists()
    state = load_file(root / "work-out" / "state.safetensors")
    weights = [value for name, value in state.items() if name.startswith("weight.")]
    assert all(torch.isfinite(value).all() for value in weights)


@pytest.mark.parametrize(("size", "file"), [(20_000, "state.safetensors"), (2_000_000, "train.jsonl")])
def test_a_full_disk_leaves_the_last_state_which_is_gone_on_from(root: Path, size: int, file: str):
    torch.set_num_threads(1)
    assert not run(root, "full", minutes=0).done
    if file == "train.jsonl":
        log = root / "work-full" / file
        log.write_text(log.read_text() * 40_000)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FULL_DISK, str(size)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert done.stdout.count("\n") == 1
    assert file in done.stdout
    assert run(root, "full").done
    assert run(root, "straight").done
    same_bits(root, "full", "straight")


@pytest.mark.parametrize(
    ("change", "out", "work", "says"),
    [
        (("save_every", "save_every"), "out", "out", "is in the way of"),
        (("save_every", "save_every"), "out", "out/run", "is in the way of"),
        (("save_every", "save_every"), "pairs.csv/x", "work", "is no folder that can be written to"),
        (("save_every", "save_every"), "out", "pairs.csv", "cannot be the folder of the run"),
        (("[training]", "[objective]\ndims = [5000]\n[training]"), "out", "work", "the base's vectors are"),
        (("[training]", "[training]\nlongest = 100000"), "out", "work", "the base reads"),
    ],
)
def test_what_cannot_end_well_is_not_begun(root: Path, change: tuple[str, str], out: str, work: str, says: str):
    (root / "recipe.toml").write_text(SHORT.replace(*change))
    with pytest.raises(InputError, match=says):
        train(root / "recipe.toml", root / out, work=root / work)
    assert not list(root.rglob("state.safetensors"))
