"""Optional TensorBoard logs; ``train.jsonl`` has the figures in any case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from encoder_tools.errors import MissingExtraError

Board = Callable[[int, Mapping[str, float]], None]
"""Takes the number of steps that are done, and figures by name."""


def board(work: Path) -> Board:
    """Where a run's figures go: ``work/tensorboard``.

    :raises MissingExtraError: if tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("TensorBoard is not installed. Install it: pip install tensorboard") from None
    writer = SummaryWriter(str(work / "tensorboard"))

    def write(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write
