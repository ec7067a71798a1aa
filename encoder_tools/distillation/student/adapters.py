"""The student while it is trained, with projections to the teacher's width that are discarded afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from encoder_tools.distillation.recipe import Recipe
from encoder_tools.distillation.student.architectures import (
    StudentShape,
    cut_table,
    make_body,
    open_branches,
    start_table,
)
from encoder_tools.distillation.student.model import Student
from encoder_tools.distillation.teacher import Teacher

_RARITY = 3e-4  # a in a / (a + p): weight of a piece of frequency p in a static start (Arora et al., ICLR 2017)


@dataclass
class AdaptedStudent:
    """Student and adapters.

    :ivar student: body and dense layer.
    :ivar adapters: linear maps from student layers to teacher layers, one for each but the last; and one more for the
        last where the teacher's vectors are not the plain mean of its states.
    """

    student: Student
    adapters: nn.ModuleList

    def named(self) -> dict[str, nn.Parameter]:
        """All parameters by name."""
        named = {f"student.{name}": value for name, value in self.student.named_parameters()}
        return named | {f"adapters.{name}": value for name, value in self.adapters.named_parameters()}


@dataclass(frozen=True)
class Pieces:
    """The student's vocabulary.

    :ivar kept: the teacher's id of each piece; None for pieces of its own.
    :ivar names: of each piece, as a text.
    :ivar counts: how often the texts use each.
    """

    kept: NDArray[np.int64] | None
    names: list[str]
    counts: NDArray[np.int64]
    pad_id: int


def adapt_student(recipe: Recipe, teacher: Teacher, pieces: Pieces, device: torch.device) -> AdaptedStudent:
    """A student at its start.

    A narrower student keeps the word table's principal axes; dense layer and adapters lead back from them.
    """
    torch.manual_seed(recipe.training.seed)
    shape = _shape(recipe, teacher, pieces)
    body = make_body(shape, teacher.body)
    axes = torch.eye(teacher.hidden)
    if shape.family == "teacher":
        cut_table(body, torch.from_numpy(pieces.kept))
    else:
        table, axes = (
            _static(teacher, pieces, shape) if recipe.student.start == "static" else teacher.word_table(shape.hidden)
        )
        start_table(body, shape, table)
        open_branches(body, recipe.training.gain)
    student = Student(shape, body)
    extra = int(not teacher.tokenwise)
    adapters = nn.ModuleList(nn.Linear(shape.hidden, teacher.hidden) for _ in range(shape.layers - 1 + extra))
    with torch.no_grad():
        if axes.shape == student.dense.weight.shape:  # else the teacher has dense layers: learned from a random start
            student.dense.weight.copy_(axes)
        for adapter in adapters:
            if axes.shape == adapter.weight.shape:
                adapter.weight.copy_(axes)  # type: ignore[operator]
            nn.init.zeros_(adapter.bias)  # type: ignore[arg-type]
    return AdaptedStudent(student.to(device), adapters.to(device))


def _shape(recipe: Recipe, teacher: Teacher, pieces: Pieces) -> StudentShape:
    sizes = recipe.student
    return StudentShape(
        vocab_size=len(pieces.names),
        hidden=sizes.hidden or teacher.hidden,
        layers=sizes.layers,
        heads=sizes.heads,
        key_value_heads=sizes.key_value_heads,
        head_dim=sizes.head_dim,
        mlp=sizes.mlp,
        width=teacher.width,
        max_length=sizes.max_length,
        norm_epsilon=1.0 if sizes.start == "static" else 1e-6,
        pad_id=pieces.pad_id,
        family=sizes.family,
    )


def _static(teacher: Teacher, pieces: Pieces, shape: StudentShape) -> tuple[torch.Tensor, torch.Tensor]:
    """The teacher's vector of each piece, its principal axes, weighted by rarity; and the way back from the axes."""
    vectors = torch.from_numpy(teacher.encode(pieces.names))
    axes = torch.eye(teacher.width)
    if shape.hidden != teacher.width:
        axes = torch.linalg.svd(vectors.T @ vectors)[0][:, : shape.hidden]
    table = vectors @ axes
    table = table / table.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
    share = (pieces.counts + 1) / max(1, pieces.counts.sum())
    weights = torch.from_numpy(_RARITY / (_RARITY + share)).float()
    return table * weights[:, None], axes
