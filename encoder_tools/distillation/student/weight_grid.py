"""Weights on the int8 grid of the shipped file, so that storing them loses nothing."""

from __future__ import annotations

import torch
from torch import nn

from encoder_tools.model.int8_grid import to_grid


def on_grid(weight: torch.Tensor) -> torch.Tensor:
    """Nearest point of the grid, row by row; see :func:`encoder_tools.model.int8_grid.to_grid`.

    :param weight: of shape (rows, columns).
    """
    integers, scale = to_grid(weight.detach().float().cpu().numpy())
    return torch.from_numpy(integers * scale).to(weight)


def snap(module: nn.Module) -> None:
    """Put every matrix of a module on its grid; vectors (norms, biases) stay as they are."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 2:
                parameter.copy_(on_grid(parameter))
