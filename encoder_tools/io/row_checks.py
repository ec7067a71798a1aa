"""Checks that the readers of all row formats share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from encoder_tools.errors import InputError

"""Is told the number of a row that cannot be read, from 1 on, the reason, and what is there."""


def check_column_names(path: Path, names: Sequence[str]) -> None:
    """Check that no two columns have one name.

    :raises InputError: naming the first that comes twice.
    """
    twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
    if twice is not None:
        raise InputError(f"{path} has two columns named {twice!r}: one would hide the other. Rename one of them.")
