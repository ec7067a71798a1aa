"""The distillation objective: the student matches its teacher's states per token, per layer and per text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from encoder_tools.distillation.recipe import Recipe
from encoder_tools.distillation.state_loss import answering_layer, mean_pooled, state_loss
from encoder_tools.distillation.student.adapters import AdaptedStudent
from encoder_tools.distillation.teacher import Teacher
from encoder_tools.distillation.teacher_cache import TeacherCache
from encoder_tools.training.engine.device import Ids, bf16_products, padded, uses_bf16
from encoder_tools.training.engine.loop import optimizer_groups
from encoder_tools.training.engine.schedule import Rows
from encoder_tools.training.objectives.losses import cosine_loss, geometry_loss

_MULTIPLE = 8  # padded lengths are multiples of it: kernels are made anew for each shape
_DECAY = 0.01
_MEASURED = 128  # texts of a batch while measuring


@dataclass(frozen=True)
class Reading:
    """Texts as token ids, special tokens included.

    :ivar student: by the student's tokenizer.
    :ivar teacher: by the teacher's own; None where the two read the same pieces.
    """

    student: Sequence[Ids]
    teacher: Sequence[Ids] | None = None

    def __len__(self) -> int:
        return len(self.student)


@dataclass(frozen=True)
class Truth:
    """What the teacher says of a batch.

    :ivar levels: its states (B, L, hidden) by layer; empty where the two have no pieces in common.
    :ivar vectors: (B, width).
    """

    levels: dict[int, torch.Tensor]
    vectors: torch.Tensor


class TokenObjective:
    """Loss and figures of a run; see :class:`encoder_tools.training.engine.loop.Objective`.

    :param texts: to train on.
    :param unseen: not to train on.
    :param kept: where the teacher's states are kept; None computes them anew each time.
    """

    def __init__(
        self,
        recipe: Recipe,
        adapted: AdaptedStudent,
        teacher: Teacher,
        texts: Reading,
        unseen: Reading,
        kept: TeacherCache | None,
    ) -> None:
        self.recipe, self.adapted, self.teacher, self.kept = recipe, adapted, teacher, kept
        self.texts, self.unseen = texts, unseen
        self.device = next(adapted.student.parameters()).device
        self.levels = levels_of(recipe, teacher)
        self._truth: torch.Tensor | None = None
        if recipe.training.compiled:
            adapted.student.body.forward = torch.compile(adapted.student.body.forward, dynamic=True)
        teacher.prepare(bf16=uses_bf16(recipe.training.precision, self.device), compiled=recipe.training.compiled)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Student and adapters."""
        return self.adapted.named()

    def groups(self) -> list[dict[str, Any]]:
        """The word table learns slowly, norms and biases are not decayed."""
        training, table = self.recipe.training, self.adapted.student.body.get_input_embeddings().weight
        return optimizer_groups(
            self.parameters(), table, rate=training.rate, table_rate=training.table_rate, weight_decay=_DECAY
        )

    def backward(self, rows: Rows) -> dict[str, float]:
        """Gradients of the weighted sum of the parts; the sum, and the parts."""
        weights = self.recipe.loss
        with self._precision():
            truth = self._states(rows)
            ids, mask = self._tensors([self.texts.student[row] for row in rows])
            parts = self._parts(ids, mask, truth)
        loss = torch.stack([getattr(weights, name) * part.float() for name, part in parts.items()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach()), **{name: float(part.detach()) for name, part in parts.items()}}

    def measure(self) -> dict[str, float]:
        """Mean cosine between the student's and the teacher's vectors of the unseen texts."""
        if not len(self.unseen):
            return {}
        student = self.adapted.student
        if self._truth is None:
            own = self.unseen.student if self.unseen.teacher is None else self.unseen.teacher
            self._truth = self._vectors(own, lambda ids, mask: self._teach(ids, mask).vectors)
        vectors = self._vectors(self.unseen.student, lambda ids, mask: mean_pooled(student.tokens(ids, mask), mask))
        return {"unseen_cosine": float((vectors * self._truth).sum(1).mean())}

    def checkpoint(self) -> None:
        """Before a state is saved: what was kept so far is on disk."""
        if self.kept is not None:
            self.kept.flush()

    def _parts(self, ids: torch.Tensor, mask: torch.Tensor, truth: Truth) -> dict[str, torch.Tensor]:
        """The parts of the loss that have a weight, unweighted, for ids and mask of shape (B, L)."""
        student, weights, real = self.adapted.student, self.recipe.loss, mask.bool()
        output = student.body(input_ids=ids, attention_mask=mask, output_hidden_states=bool(weights.middle))
        tokens = student.dense(output.last_hidden_state)  # (B, L, D)
        last, layers = self.teacher.layers, student.shape.layers
        parts: dict[str, torch.Tensor] = {}
        if weights.token:
            answer = tokens if self.teacher.tokenwise else self.adapted.adapters[-1](output.last_hidden_state)
            parts["token"] = state_loss(answer[real], truth.levels[last][real])
        if weights.middle and layers > 1:
            pairs = [(k, truth.levels[level]) for k, level in enumerate(_answers(self.recipe, last), start=1)]
            parts["middle"] = torch.stack(
                [
                    state_loss(self.adapted.adapters[k - 1](output.hidden_states[k][real]), level[real])
                    for k, level in pairs
                ]
            ).sum()
        with torch.autocast(ids.device.type, enabled=False):  # cosines of a batch differ by less than bf16 can tell
            ours, theirs = mean_pooled(tokens.float(), mask), truth.vectors
            dims = weights.dims or (ours.shape[1],)
            if weights.cosine:
                parts["cosine"] = torch.stack([cosine_loss(ours[:, :dim], theirs[:, :dim]) for dim in dims]).mean()
            if weights.geometry:
                parts["geometry"] = torch.stack([geometry_loss(ours[:, :dim], theirs[:, :dim]) for dim in dims]).mean()
        return parts

    def _states(self, rows: Rows) -> Truth:
        """What the teacher says of training texts, computed or kept."""
        own = self.texts.student if self.texts.teacher is None else self.texts.teacher
        ids, mask = self._tensors([own[row] for row in rows])
        if self.kept is None:
            return self._teach(ids, mask)
        if not self.kept.knows(rows):
            truth = self._teach(ids, mask)
            computed = [*truth.levels.values()] or [truth.vectors.unsqueeze(1)]
            self.kept.keep(rows, torch.stack(computed, dim=2))
        states = self.kept.read(rows, ids.shape[1] if self.levels else 1).to(self.device)
        if not self.levels:
            return Truth({}, nn.functional.normalize(states[:, 0, 0], dim=-1))
        levels = {level: states[:, :, position] for position, level in enumerate(self.levels)}
        return Truth(levels, self._heads(levels[self.teacher.layers], mask))

    def _teach(self, ids: torch.Tensor, mask: torch.Tensor) -> Truth:
        states = self.teacher.states(ids, mask)
        return Truth({level: states[level] for level in self.levels}, self._heads(states[-1], mask))

    def _heads(self, last: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return self.teacher.vectors(last.float(), mask)

    def _vectors(
        self, texts: Sequence[Ids], vectors_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Unit vectors (n, D) of texts, in their order."""
        order = np.argsort([len(row) for row in texts], kind="stable")
        made = []
        with torch.no_grad(), self._precision():
            for start in range(0, len(order), _MEASURED):
                batch = self._tensors([texts[row] for row in order[start : start + _MEASURED]])
                made.append(vectors_of(*batch).float().cpu())
        return torch.cat(made)[torch.from_numpy(np.argsort(order))]

    def _precision(self) -> torch.autocast:
        return bf16_products(self.recipe.training.precision, self.device)

    def _tensors(self, texts: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded ids and mask of shape (B, L)."""
        return padded(texts, self.device, multiple=_MULTIPLE, longest=self.recipe.training.longest)


def levels_of(recipe: Recipe, teacher: Teacher) -> tuple[int, ...]:
    """The layers of the teacher whose states the loss needs."""
    weights = recipe.loss
    middle = set(_answers(recipe, teacher.layers)) if weights.middle else set()
    last = {teacher.layers} if weights.token or (weights.middle and recipe.vocabulary.kind == "teacher") else set()
    return tuple(sorted(middle | last))


def _answers(recipe: Recipe, teacher_layers: int) -> list[int]:
    """The teacher's layer that each of the student's but the last answers to."""
    layers = recipe.student.layers
    return list(recipe.loss.levels) or [answering_layer(k, layers, teacher_layers) for k in range(1, layers)]


def cut_texts(texts: Sequence[Ids], longest: int) -> list[Ids]:
    """Texts of at most ``longest`` tokens; one that is cut keeps its last, special token."""
    return [row if len(row) <= longest else np.append(row[: longest - 1], row[-1]) for row in texts]
