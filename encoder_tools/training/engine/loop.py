"""The training loop: bounded slices, exact resume, one log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from encoder_tools.aliases import Log
from encoder_tools.errors import TrainingError
from encoder_tools.io.files import save_error
from encoder_tools.training.engine import distributed as processes
from encoder_tools.training.engine.checkpointing import restore_state, restore_weights, save_state, save_weights
from encoder_tools.training.engine.schedule import Rows, rate_at
from encoder_tools.training.engine.tensorboard import Board

STATE_NAME, LOG_NAME, BEST_NAME = "state.safetensors", "train.jsonl", "best.safetensors"

Plan = Callable[[int], Iterator[tuple[int, Rows]]]
"""From the number of steps that are done to the steps that follow, with the rows of each."""


class Objective(Protocol):
    """What is trained, and on what."""

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """All that is trained, by name."""

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups: ``params``, ``peak`` (their rate) and ``weight_decay``."""

    def backward(self, rows: Rows) -> dict[str, float]:
        """Add the gradients of one batch to the parameters; return its loss, "loss", and the parts of it by name."""

    def measure(self) -> dict[str, float]:
        """Figures on texts that are not trained on; must not touch what the next steps depend on."""

    def checkpoint(self) -> None:
        """Called before a state is saved: what the state relies on must be on disk."""


@dataclass(frozen=True)
class Pace:
    """How a run proceeds.

    :ivar warmup: steps to the peak rate; a cosine then takes it to zero at ``steps``.
    :ivar save_every: steps between two states on disk, and two lines in the log.
    :ivar measure_every: steps between two measurements; 0 measures at the end alone.
    :ivar clip: largest norm of all gradients together.
    :ivar best: name of the figure that is best when it is highest: the weights it was measured at are kept, and are the
        result; empty takes the last ones.
    :ivar patience: measurements without a better one after which the run ends early; 0 never does.
    """

    steps: int
    warmup: int
    save_every: int
    measure_every: int = 0
    clip: float = 1.0
    best: str = ""
    patience: int = 0


def optimizer_groups(
    parameters: Mapping[str, nn.Parameter], table: nn.Parameter, *, rate: float, table_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups of an optimizer: the word table has a rate of its own; neither it nor norms and biases are decayed.

    :param table: is trained if it is one of ``parameters``.
    """
    rest = [value for value in parameters.values() if value is not table]
    return [
        {"params": [table] if len(rest) < len(parameters) else [], "peak": table_rate, "weight_decay": 0.0},
        {"params": [value for value in rest if value.dim() > 1], "peak": rate, "weight_decay": weight_decay},
        {"params": [value for value in rest if value.dim() <= 1], "peak": rate, "weight_decay": 0.0},
    ]


class Loop:
    """A run in a folder of its own, continued from its last state.

    :param plan: which rows make which step.
    :param settings: all that the run depends on; a state of other settings is refused.
    :param work: folder of the state and the log.
    :ivar last_figures: of the last measurement.
    :ivar board: also gets each line of the log.
    :raises FingerprintError: if the folder holds a state of other settings.
    :raises FileCorruptError: if the state is damaged.
    """

    def __init__(self, objective: Objective, pace: Pace, plan: Plan, settings: str, work: Path) -> None:
        self.objective, self.pace, self.plan, self.settings, self.work = objective, pace, plan, settings, work
        self.parameters = objective.parameters()
        self.optimizer = torch.optim.AdamW(objective.groups(), lr=1.0, betas=(0.9, 0.98))
        self.last_figures: dict[str, float] = {}
        self.board: Board | None = None
        work.mkdir(parents=True, exist_ok=True)
        self.at = restore_state(work / STATE_NAME, self.parameters, self.optimizer, settings)

    @property
    def done(self) -> int:
        """Steps that are done."""
        return self.at.step

    def run(self, minutes: float | None, log: Log) -> bool:
        """Train until the last step or the limit, if there is one; save on the way and at the end.

        With :attr:`Pace.best`, the parameters are the best ones when it returns true.

        :return: whether the last step is done, or the run ended early.
        :raises TrainingError: if the loss is not finite; the last state on disk is from before.
        """
        pace, started, first, texts, before = self.pace, time.monotonic(), self.done, 0, self.at.seconds
        for step, rows in self.plan(self.done) if not self.at.stopped else ():
            parts = self._step(step, rows)
            self.at, texts = self.at._replace(step=step + 1), texts + len(rows)
            spent = time.monotonic() - started
            last = self.done == pace.steps
            over = processes.lead_decides(minutes is not None and spent > 60 * minutes)
            due = last or bool(pace.measure_every and self.done % pace.measure_every == 0)
            if due:
                self._measure()
                parts |= self.last_figures
            if (due or over or self.done % pace.save_every == 0) and processes.is_lead():
                self.at = self.at._replace(seconds=before + time.monotonic() - started)
                self.objective.checkpoint()
                save_state(self.work / STATE_NAME, self.parameters, self.optimizer, self.settings, self.at)
                self._tell(parts, (self.done - first) / spent, texts / spent, log)
            if over or self.at.stopped:
                break
        ended = self.at.stopped or self.done == pace.steps
        if ended and self.at.best is not None:
            with processes.lead_first():  # which has written them
                restore_weights(self.work / BEST_NAME, self.parameters)
        return ended

    def _measure(self) -> None:
        """Measure; keep the weights if they are the best so far, and decide whether to continue."""
        self.last_figures = self.objective.measure()
        value, at, pace = self.last_figures.get(self.pace.best), self.at, self.pace
        if value is None:
            return
        if at.best is None or value > at.best:
            if processes.is_lead():
                save_weights(self.work / BEST_NAME, self.parameters)
            self.at = at._replace(best=value, best_step=at.step)
        elif pace.patience and at.step - at.best_step >= pace.patience * pace.measure_every > 0:
            self.at = at._replace(stopped=True)

    def _step(self, step: int, rows: Rows) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate_at(step, self.pace.steps, self.pace.warmup)
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.objective.backward(rows)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.pace.clip)
        if not (torch.isfinite(norm) and math.isfinite(parts["loss"])):  # a cached pass gives none for a loss of NaN
            raise TrainingError(
                f"At step {step + 1} the loss is {parts['loss']}, its gradient's norm {float(norm)}; the batch "
                f"begins with rows {rows[:4].tolist()}. Lower the rates; {self.work / STATE_NAME} is from before."
            )
        self.optimizer.step()
        return parts

    def _tell(self, parts: dict[str, float], steps_a_second: float, rate: float, log: Log) -> None:
        left = (self.pace.steps - self.done) / steps_a_second / 60
        shown = " ".join(f"{name} {value:.4f}" for name, value in parts.items())
        log(f"step {self.done}/{self.pace.steps} {shown} {rate:.0f} texts/s, {left:.0f} min left")
        row = {"step": self.done, **parts, "texts_per_s": round(rate, 1)}
        path = self.work / LOG_NAME
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise save_error(path, error) from error
        if self.board is not None:
            self.board(self.done, {**parts, "texts_per_s": rate})
