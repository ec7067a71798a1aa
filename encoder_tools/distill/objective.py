"""What the student is trained on: the teacher's vectors, and the geometry between them."""

from __future__ import annotations

import torch
from torch.nn import functional

Dims = tuple[int, ...]


def cosine_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cosine between matching rows of two (B, D) tensors."""
    return (1 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


def geometry_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared difference between the two batches' cosine matrices.

    Source: Kim et al., "EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval", 2023.
    """
    left, right = functional.normalize(student, dim=-1), functional.normalize(teacher, dim=-1)
    return functional.mse_loss(left @ left.T, right @ right.T)


def matching_loss(student: torch.Tensor, teacher: torch.Tensor, dims: Dims, geometry: float) -> torch.Tensor:
    """``cosine + geometry * geometry_loss``, averaged over prefixes of the vectors.

    The teacher's vectors are rotated so that variance falls with the dimension; a prefix is then its best projection.
    Source of the prefixes: Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022.

    :param student: (B, D).
    :param teacher: (B, D), rotated.
    :param dims: prefix widths, the full width among them.
    """
    losses = [
        cosine_loss(student[:, :dim], teacher[:, :dim]) + geometry * geometry_loss(student[:, :dim], teacher[:, :dim])
        for dim in dims
    ]
    return torch.stack(losses).mean()
