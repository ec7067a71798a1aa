"""The student in training: its start, the adapters beside it, and its loss against the teacher's states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from encoder_tools.distill.objective import answering_layer, cosine_loss, geometry_loss, mean_pooled, state_loss
from encoder_tools.distill.recipe import Recipe, Weights
from encoder_tools.distill.student import Student, StudentShape, open_branches
from encoder_tools.distill.token_states import TokenTeacher
from encoder_tools.train.schedule import Rows

_MULTIPLE = 8  # padded lengths are multiples of it: kernels are made anew for each shape
_MEASURED = 128  # texts of a batch while measuring

Ids = NDArray[np.int32]


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
    """A student started from its teacher's word table, residual branches nearly closed.

    A narrower student keeps the table's principal axes; dense layer and adapters lead back from them.
    """
    torch.manual_seed(recipe.training.seed)
    sizes, width = recipe.student, teacher.width
    hidden = sizes.hidden or width
    shape = StudentShape(
        vocab_size=vocab_size,
        hidden=hidden,
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
    adapters = nn.ModuleList(nn.Linear(hidden, width) for _ in range(sizes.layers - 1))
    table, axes = teacher.word_table(hidden)
    with torch.no_grad():
        student.body.embed_tokens.weight.copy_(table)
        student.dense.weight.copy_(axes)
        for adapter in adapters:
            adapter.weight.copy_(axes)  # type: ignore[operator]
            nn.init.zeros_(adapter.bias)  # type: ignore[arg-type]
    return Pupil(student.to(device), adapters.to(device))


class TokenObjective:
    """The student answers to its teacher token by token, layer by layer and text by text.

    :param ids: token ids of each text, special tokens included.
    :param unseen: token ids of texts that are not trained on.
    """

    def __init__(
        self, recipe: Recipe, pupil: Pupil, teacher: TokenTeacher, ids: Sequence[Ids], unseen: Sequence[Ids]
    ) -> None:
        self.recipe, self.pupil, self.teacher, self.ids, self.unseen = recipe, pupil, teacher, ids, unseen
        self.device = next(pupil.student.parameters()).device
        precision, kind = recipe.training.precision, self.device.type
        self.bf16 = precision == "bf16" or (precision == "auto" and kind == "cuda")
        self._truth: torch.Tensor | None = None
        if recipe.training.compiled:
            pupil.student.body.forward = torch.compile(pupil.student.body.forward, dynamic=True)
        teacher.prepare(bf16=self.bf16, compiled=recipe.training.compiled)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Student and adapters."""
        return self.pupil.named()

    def groups(self) -> list[dict[str, Any]]:
        """The word table learns slowly, norms and biases are not decayed."""
        named, training = self.pupil.named(), self.recipe.training
        table = [value for name, value in named.items() if name.endswith("embed_tokens.weight")]
        rest = [value for name, value in named.items() if not name.endswith("embed_tokens.weight")]
        return [
            {"params": table, "peak": training.table_rate, "weight_decay": 0.0},
            {"params": [value for value in rest if value.dim() > 1], "peak": training.rate, "weight_decay": 0.01},
            {"params": [value for value in rest if value.dim() == 1], "peak": training.rate, "weight_decay": 0.0},
        ]

    def loss(self, rows: Rows) -> tuple[torch.Tensor, dict[str, float]]:
        """Weighted sum of the parts, and the parts."""
        weights = self.recipe.loss
        ids, mask = self._tensors([self.ids[row] for row in rows])
        with self._precision():
            parts = losses_of(self.pupil, self.teacher, ids, mask, weights)
        loss = torch.stack([getattr(weights, name) * part.float() for name, part in parts.items()]).sum()
        return loss, {name: float(part.detach()) for name, part in parts.items()}

    def measure(self) -> dict[str, float]:
        """Mean cosine between the student's and the teacher's vectors of the unseen texts."""
        if not self.unseen:
            return {}
        if self._truth is None:
            self._truth = self._vectors(lambda ids, mask: self.teacher.states(ids, mask)[-1])
        student = self.pupil.student
        found = self._vectors(lambda ids, mask: student.tokens(ids, mask))
        return {"unseen_cosine": float((found * self._truth).sum(1).mean())}

    def _vectors(self, tokens_of: Any) -> torch.Tensor:
        """Unit vectors (n_unseen, D) of the unseen texts, in their order."""
        order = np.argsort([len(row) for row in self.unseen], kind="stable")
        made = []
        with torch.no_grad(), self._precision():
            for start in range(0, len(order), _MEASURED):
                ids, mask = self._tensors([self.unseen[row] for row in order[start : start + _MEASURED]])
                made.append(mean_pooled(tokens_of(ids, mask).float(), mask).cpu())
        return torch.cat(made)[torch.from_numpy(np.argsort(order))]

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _tensors(self, texts: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded ids and mask of shape (B, L); a text that is cut keeps its last special token."""
        longest = self.recipe.training.longest
        texts = [row if len(row) <= longest else np.append(row[: longest - 1], row[-1]) for row in texts]
        length = max(map(len, texts))
        ids = np.zeros((len(texts), min(longest, length + -length % _MULTIPLE)), dtype=np.int64)
        mask = np.zeros_like(ids)
        for line, row in enumerate(texts):
            ids[line, : len(row)] = row
            mask[line, : len(row)] = 1
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)


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
    with torch.autocast(ids.device.type, enabled=False):  # cosines of a batch differ by less than bf16 can tell
        ours, theirs = mean_pooled(tokens.float(), mask), mean_pooled(truth[-1].float(), mask)
        dims = weights.dims or (ours.shape[1],)
        if weights.cosine:
            parts["cosine"] = torch.stack([cosine_loss(ours[:, :dim], theirs[:, :dim]) for dim in dims]).mean()
        if weights.geometry:
            parts["geometry"] = torch.stack([geometry_loss(ours[:, :dim], theirs[:, :dim]) for dim in dims]).mean()
    return parts
