"""Weights on an int8 grid, so that the shipped file can hold one byte a weight and lose nothing."""

from __future__ import annotations

import torch
from torch import nn

STEPS = 127


def on_grid(weight: torch.Tensor) -> torch.Tensor:
    """Nearest point of the grid ``k * max|row| / 127`` with integer k in -127..127, row by row.

    Applying it twice changes nothing beyond rounding of the last bit: a row's largest weight is its own scale's 127.

    :param weight: of shape (rows, columns).
    """
    scale = weight.abs().amax(dim=1, keepdim=True) / STEPS
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return torch.clamp(torch.round(weight / scale), -STEPS, STEPS) * scale


def snap(module: nn.Module) -> None:
    """Put every matrix of a module on its grid; vectors (norms, biases) stay as they are."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 2:
                parameter.copy_(on_grid(parameter))
