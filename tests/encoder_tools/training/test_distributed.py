"""Two processes that train one model: the gradients of one, slices, best weights, and what becomes of failures."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from encoder_tools.errors import FileCorruptError, InputError, TrainingError
from encoder_tools.training.run import train
from tests.encoder_tools.training.test_train import RECIPE, base, root

__all__ = ["base", "root"]  # fixtures

TWO = RECIPE.replace("epochs = 4", "steps = 6").replace("save_every = 4", "save_every = 1").replace("3e-3", "1e-3")


def run(root: Path, name: str, recipe: str = TWO, **options: Any) -> Any:
    (root / "recipe.toml").write_text(recipe)
    return train(root / "recipe.toml", root / name, work=root / f"work-{name}", **options)


def losses(root: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / f"work-{name}" / "train.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("tokens", [256, 100_000])
@pytest.mark.parametrize(
    "more",
    [
        "spread_out = 0.5\ndims = [16]\n",
        'teacher = "default"\nmatch = 1.0\ngeometry = 5.0\n',  # wider than the base: through a projection
    ],
)
def test_two_processes_have_the_gradients_of_one(root: Path, tokens: int, more: str):
    """After one step, an optimizer's first moment is a tenth of the gradient."""
    recipe = (
        TWO.replace("steps = 6", "steps = 1")
        .replace("tokens = 256", f"tokens = {tokens}")
        .replace("batch = 16", "batch = 15")
    )
    recipe += "[objective]\n" + more
    said: list[str] = []
    assert run(root, "one", recipe).done
    trained = run(root, "two", recipe, processes=2, log=said.append)
    assert trained.done
    assert sum(line.startswith("step") for line in said) == 1  # the lead's alone
    assert losses(root, "one")[0]["loss"] == pytest.approx(losses(root, "two")[0]["loss"], rel=1e-6)
    states = [load_file(root / f"work-{name}" / "state.safetensors") for name in ("one", "two")]
    gradients = [name for name in states[0] if name.endswith("exp_avg")]
    assert len(gradients) > 10
    for name in gradients:
        scale = float(states[0][name].abs().max())
        assert scale > 0
        assert float((states[0][name] - states[1][name]).abs().max()) <= 1e-5 * scale, name


def test_more_processes_than_texts_are_no_harm(root: Path):
    """Two plain texts per step, three processes: one has nothing to compute."""
    recipe = TWO.replace("steps = 6", "steps = 2").replace("held_out = 20", 'text = "document"')
    recipe = recipe.replace("batch = 16", "batch = 2") + "[objective]\nmatch = 1.0\n"
    assert run(root, "one", recipe).done
    assert run(root, "three", recipe, processes=3).done
    assert losses(root, "three")[0]["loss"] == pytest.approx(losses(root, "one")[0]["loss"], abs=1e-6)


def test_slices_of_two_processes_keep_the_best_weights(root: Path):
    recipe = TWO + "measure_every = 2\n"
    done = run(root, "sliced", recipe, processes=2, minutes=0)
    assert not done.done
    assert run(root, "sliced", recipe, processes=2).done
    assert run(root, "straight", recipe, processes=2).done
    left, right = (load_file(root / name / "model.safetensors") for name in ("straight", "sliced"))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_an_error_in_them_is_the_one_that_is_raised(root: Path):
    (root / "pairs.csv").write_text('query,document\n"a",b\n"c')
    with pytest.raises(FileCorruptError, match=r"pairs\.csv"):
        run(root, "out", processes=2)
    with pytest.raises(InputError, match="processes is 0"):
        run(root, "out", processes=0)


def test_one_that_is_killed_ends_the_run_and_the_state_stays(root: Path):
    def kill() -> None:
        log = root / "work-killed" / "train.jsonl"
        deadline = time.monotonic() + 120
        while not log.is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        children = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
        os.kill(children[-1].pid, signal.SIGKILL)

    recipe = TWO.replace("steps = 6", "steps = 4000")
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TrainingError, match=r"has died.*-9"):
        run(root, "killed", recipe, processes=2)
    killer.join()
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    step = losses(root, "killed")[-1]["step"]
    run(root, "killed", recipe, minutes=0)
    assert losses(root, "killed")[-1]["step"] > step


def test_tensorboard_has_what_the_log_has(root: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert run(root, "out", tensorboard=True).done
    found = EventAccumulator(str(root / "work-out" / "tensorboard")).Reload()
    told = {event.step: event.value for event in found.Scalars("loss")}
    assert told == {row["step"]: pytest.approx(row["loss"], rel=1e-5) for row in losses(root, "out")}
