"""The loss over hidden states, and which layer of the teacher each layer of the student learns from."""

from __future__ import annotations

import torch
from torch.nn import functional


def state_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared error between hidden states of tokens (n_tokens, H), over the variance of the teacher's.

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", EMNLP Findings 2020.
    """
    return functional.mse_loss(student, teacher) / teacher.var()


def answering_layer(layer: int, layers: int, teacher_layers: int) -> int:
    """Layer of the teacher (from 1) whose states layer ``layer`` (from 1) of the student answers to: evenly spread."""
    return max(1, round(teacher_layers * layer / layers))


def mean_pooled(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Unit vectors (B, H) of token vectors (B, L, H) under a mask (B, L)."""
    kept = mask.unsqueeze(-1).to(tokens.dtype)
    return functional.normalize((tokens * kept).sum(1) / kept.sum(1).clamp(min=1e-9), dim=-1)
