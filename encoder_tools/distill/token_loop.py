"""Distillation token by token: one loop, slices of bounded time, exact resume."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from encoder_tools.distill.objective import answering_layer, cosine_loss, geometry_loss, mean_pooled, state_loss
from encoder_tools.distill.recipe import Recipe, Weights
from encoder_tools.distill.schedule import batches, rate_at
from encoder_tools.distill.student import Student, StudentShape, open_branches
from encoder_tools.distill.token_states import TokenTeacher
from encoder_tools.errors import FileCorruptError, FingerprintError
from encoder_tools.files import write_bytes

_STATE = "state.safetensors"
_LOG = "train.jsonl"


@dataclass
class Pupil:
    """What is trained.

    :ivar student: body and dense layer.
    :ivar adapters: linear maps from student layers to teacher layers; thrown away afterwards.
    """

    student: Student
    adapters: nn.ModuleList

    def named(self) -> dict[str, nn.Parameter]:
        """All parameters by name."""
        named = {f"student.{name}": value for name, value in self.student.named_parameters()}
        return named | {f"adapters.{name}": value for name, value in self.adapters.named_parameters()}


def make_pupil(recipe: Recipe, teacher: TokenTeacher, vocab_size: int, device: torch.device) -> Pupil:
    """A student as wide as its teacher, started from its word table, residual branches nearly closed."""
    torch.manual_seed(recipe.training.seed)
    sizes, width = recipe.student, teacher.width
    shape = StudentShape(
        vocab_size=vocab_size,
        hidden=width,
        layers=sizes.layers,
        heads=sizes.heads,
        key_value_heads=sizes.key_value_heads,
        head_dim=sizes.head_dim,
        mlp=sizes.mlp,
        width=width,
        max_length=sizes.max_length,
        norm_epsilon=1e-6,
    )
    student = Student(shape)
    student.branches_open = True
    open_branches(student.body, recipe.training.gain)
    adapters = nn.ModuleList(nn.Linear(width, width) for _ in range(sizes.layers - 1))
    with torch.no_grad():
        student.body.embed_tokens.weight.copy_(teacher.word_table())
        nn.init.eye_(student.dense.weight)
        for adapter in adapters:
            nn.init.eye_(adapter.weight)  # type: ignore[arg-type]
            nn.init.zeros_(adapter.bias)  # type: ignore[arg-type]
    return Pupil(student.to(device), adapters.to(device))


def losses_of(
    pupil: Pupil, teacher: TokenTeacher, ids: torch.Tensor, mask: torch.Tensor, weights: Weights
) -> dict[str, torch.Tensor]:
    """The parts of the loss that have a weight, unweighted, for ids and mask of shape (B, L)."""
    student, kept = pupil.student, mask.bool()
    truth = teacher.states(ids, mask)
    output = student.body(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    tokens = student.dense(output.last_hidden_state)  # (B, L, D)
    parts: dict[str, torch.Tensor] = {}
    if weights.token:
        parts["token"] = state_loss(tokens[kept], truth[-1][kept])
    if weights.middle and len(pupil.adapters):
        layers = len(pupil.adapters) + 1
        parts["middle"] = torch.stack(
            [
                state_loss(
                    adapter(output.hidden_states[layer][kept]),
                    truth[answering_layer(layer, layers, teacher.layers)][kept],
                )
                for layer, adapter in enumerate(pupil.adapters, start=1)
            ]
        ).sum()
    ours, theirs = mean_pooled(tokens, mask), mean_pooled(truth[-1], mask)
    dims = weights.dims or (ours.shape[1],)
    if weights.cosine:
        parts["cosine"] = torch.stack([cosine_loss(ours[:, :dim], theirs[:, :dim]) for dim in dims]).mean()
    if weights.geometry:
        parts["geometry"] = torch.stack([geometry_loss(ours[:, :dim], theirs[:, :dim]) for dim in dims]).mean()
    return parts


class TokenLoop:
    """A run in a folder of its own, continued from its last state.

    :param ids: token ids of each text, special tokens included.
    :param work: folder of the state and the log.
    :raises FingerprintError: if the folder holds a state of other settings, texts or vocabulary.
    :raises FileCorruptError: if the state is damaged.
    """

    def __init__(
        self, recipe: Recipe, pupil: Pupil, teacher: TokenTeacher, ids: Sequence[NDArray[np.int32]], work: Path
    ) -> None:
        self.recipe, self.pupil, self.teacher, self.ids, self.work = recipe, pupil, teacher, ids, work
        self.device = next(pupil.student.parameters()).device
        self.lengths = np.array([min(len(row), recipe.training.longest) for row in ids])
        self.parameters = pupil.named()
        self.optimizer = torch.optim.AdamW(_groups(self.parameters, recipe), lr=recipe.training.rate, betas=(0.9, 0.98))
        self.settings = f"recipe {recipe.digest()}, texts {_digest(ids)}"
        work.mkdir(parents=True, exist_ok=True)
        self.done = self._restore()

    def run(self, seconds: float, say: Callable[[str], None]) -> bool:
        """Train until the last step or the limit, whichever comes first; save on the way and at the end.

        :return: whether the last step is done.
        """
        training = self.recipe.training
        started, first = time.monotonic(), self.done
        for step, rows in batches(self.lengths, training.batch, training.steps, training.seed, self.done):
            parts = self._step(step, rows)
            self.done = step + 1
            spent = time.monotonic() - started
            over = spent > seconds
            if over or self.done % training.save_every == 0 or self.done == training.steps:
                self._save()
                self._tell(parts, (self.done - first) / spent, say)
            if over:
                break
        return self.done == training.steps

    def _step(self, step: int, rows: NDArray[np.int64]) -> dict[str, float]:
        training, weights = self.recipe.training, self.recipe.loss
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate_at(step, training.steps, training.warmup)
        ids, mask = self._tensors(rows)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            parts = losses_of(self.pupil, self.teacher, ids, mask, weights)
        loss = torch.stack([getattr(weights, name) * part.float() for name, part in parts.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        return {"loss": float(loss.detach()), **{name: float(part.detach()) for name, part in parts.items()}}

    def _tensors(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded ids and mask of shape (B, L); a text that is cut keeps its last special token."""
        longest = self.recipe.training.longest
        ids = np.zeros((len(rows), int(self.lengths[rows].max())), dtype=np.int64)
        mask = np.zeros_like(ids)
        for line, row in enumerate(rows):
            tokens = self.ids[row]
            if len(tokens) > longest:
                tokens = np.concatenate([tokens[: longest - 1], tokens[-1:]])
            ids[line, : len(tokens)] = tokens
            mask[line, : len(tokens)] = 1
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def _tell(self, parts: dict[str, float], steps_a_second: float, say: Callable[[str], None]) -> None:
        training = self.recipe.training
        left = (training.steps - self.done) / steps_a_second / 60
        shown = " ".join(f"{name} {value:.4f}" for name, value in parts.items())
        rate = steps_a_second * training.batch
        say(f"step {self.done}/{training.steps} {shown} {rate:.0f} texts/s, {left:.0f} min left")
        row = {"step": self.done, **parts, "texts_per_s": round(rate, 1)}
        with (self.work / _LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        """Weights, moments and the step in one file, so that they can never be of different steps."""
        tensors = {f"weight.{name}": value.detach().cpu().contiguous() for name, value in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value.detach().cpu()
        metadata = {"settings": self.settings, "step": str(self.done)}
        write_bytes(self.work / _STATE, save(tensors, metadata=metadata))

    def _restore(self) -> int:
        path = self.work / _STATE
        if not path.is_file():
            return 0
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            tensors: dict[str, Any] = load_file(path)
            step = int(metadata["step"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise FileCorruptError(f"{path} is no state of a run ({error}). Remove it to begin again.") from None
        if metadata.get("settings") != self.settings:
            raise FingerprintError(
                f"{path} was made with other settings, texts or vocabulary ({metadata.get('settings')}; now "
                f"{self.settings}). Continue with its own recipe, or use another work folder."
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weight.{name}"])
                prefix = f"optimizer.{name}."
                found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                moved = {key: value if key == "step" else value.to(self.device) for key, value in found.items()}
                self.optimizer.state[parameter] = moved
        return step


def _digest(ids: Sequence[NDArray[np.int32]]) -> str:
    """Hash of the texts in their order, as token ids: a recipe names files, not what is in them."""
    state = hashlib.sha256()
    for row in ids:
        state.update(len(row).to_bytes(4, "little") + row.tobytes())
    return state.hexdigest()[:32]


def _groups(parameters: dict[str, nn.Parameter], recipe: Recipe) -> list[dict[str, Any]]:
    """The word table learns slowly, norms and biases are not decayed."""
    table = [value for name, value in parameters.items() if name.endswith("embed_tokens.weight")]
    rest = [value for name, value in parameters.items() if not name.endswith("embed_tokens.weight")]
    training = recipe.training
    return [
        {"params": table, "peak": training.table_rate, "weight_decay": 0.0},
        {"params": [value for value in rest if value.dim() > 1], "peak": training.rate, "weight_decay": 0.01},
        {"params": [value for value in rest if value.dim() == 1], "peak": training.rate, "weight_decay": 0.0},
    ]
