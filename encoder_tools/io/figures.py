"""Matplotlib figures as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from encoder_tools.io.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, atomically.

    :raises SaveError: if writing fails; what stood there before is untouched.
    """
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=110)
    write_bytes(path, made.getvalue())
