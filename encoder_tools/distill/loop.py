"""The training loop: one screen, atomic states, step-exact resume."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from encoder_tools.distill.objective import Dims, matching_loss
from encoder_tools.distill.schedule import batches, rate_at
from encoder_tools.distill.student import Student
from encoder_tools.files import write_bytes

_SAVE_EVERY = 100  # steps


@dataclass(frozen=True)
class Stage:
    """Settings of one stage.

    :ivar name: used in file names and logs.
    :ivar batch: texts in a step.
    :ivar rate: peak learning rate of the body; ``table_rate`` that of the word table.
    :ivar warmup: steps to the peak; a cosine then takes the rate to zero at ``steps``.
    :ivar longest: tokens kept of each text.
    :ivar drop: share of the tokens hidden at random from each text (never the first).
    """

    name: str
    steps: int
    batch: int
    rate: float
    table_rate: float
    warmup: int
    longest: int
    drop: float
    seed: int
    geometry: float = 5.0
    dims: Dims = (384,)


@dataclass(frozen=True)
class TrainingSet:
    """Token ids of each text, and the teacher's rotated vectors, float16 of shape (n_texts, width)."""

    ids: Sequence[NDArray[np.uint16]]
    targets: NDArray[np.float16]


def train_stage(student: Student, data: TrainingSet, stage: Stage, folder: Path, say: Callable[[str], None]) -> None:
    """Train a student through one stage, in place; continues from ``folder`` if an earlier run stopped in it."""
    optimizer = _optimizer(student, stage)
    state = folder / f"{stage.name}.safetensors"
    done = _restore(state, student, optimizer)
    started, first, losses = time.monotonic(), done, []
    lengths = np.array([min(len(row), stage.longest) for row in data.ids])
    for step, rows in batches(lengths, stage.batch, stage.steps, stage.seed, done):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate_at(step, stage.steps, stage.warmup)
        ids, mask = _tensors([data.ids[row] for row in rows], stage, step)
        target = torch.from_numpy(data.targets[rows].astype(np.float32))
        loss = matching_loss(student(ids, mask), target, stage.dims, stage.geometry)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == stage.steps:
            _save(state, student, optimizer, step + 1)
            rate = (step + 1 - first) * stage.batch / (time.monotonic() - started)
            say(f"{stage.name} {step + 1}/{stage.steps} loss {np.mean(losses[-100:]):.4f} {rate:.0f} texts/s")
            _log(folder, {"stage": stage.name, "step": step + 1, "loss": float(np.mean(losses[-100:]))})


def _optimizer(student: Student, stage: Stage) -> torch.optim.AdamW:
    table = [student.body.embed_tokens.weight]
    rest = [weight for weight in student.parameters() if weight is not table[0]]
    if not student.branches_open:
        rest = [*student.body.norm.parameters(), *student.dense.parameters()]
    groups = [
        {"params": table, "peak": stage.table_rate, "weight_decay": 0.0},
        {"params": rest, "peak": stage.rate, "weight_decay": 0.01 if student.branches_open else 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98))


def _tensors(rows: list[NDArray[np.uint16]], stage: Stage, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded ids and mask of shape (B, L); with ``drop``, masked tokens are as if they were not there."""
    rows = [row[: stage.longest] for row in rows]
    ids = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int64)
    mask = np.zeros_like(ids)
    for line, row in enumerate(rows):
        ids[line, : len(row)] = row
        mask[line, : len(row)] = 1
    if stage.drop:
        hidden = np.random.default_rng([stage.seed, step, 2]).random(ids.shape) < stage.drop
        hidden[:, 0] = False
        mask[hidden] = 0
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _save(path: Path, student: Student, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Weights, moments and the step in one file, so that they can never be of different steps."""
    tensors = {f"weight.{name}": value.detach().contiguous() for name, value in student.state_dict().items()}
    for number, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{number}.{key}"] = value
    tensors["step"] = torch.tensor(step)
    write_bytes(path, save(tensors))


def _restore(path: Path, student: Student, optimizer: torch.optim.Optimizer) -> int:
    if not path.is_file():
        return 0
    tensors = load_file(path)
    prefix = "weight."
    student.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    for number, parameter in enumerate(_parameters(optimizer)):
        keys = ("step", "exp_avg", "exp_avg_sq")
        found = {key: tensors[f"optimizer.{number}.{key}"] for key in keys if f"optimizer.{number}.{key}" in tensors}
        optimizer.state[parameter] = found
    return int(tensors["step"])


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _log(folder: Path, row: dict[str, Any]) -> None:
    with (folder / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
