"""Checks of arguments that several packages share."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from encoder_tools.errors import InputError


def checked_integer(value: Any, name: str, least: int, most: int | None = None) -> int:
    """``value`` as an int, if it is an integer (numpy's too, but no bool) within bounds.

    :raises InputError: if it is not.
    """
    number = int(value) if not isinstance(value, bool) and isinstance(value, Integral) else None
    if number is None or number < least or (most is not None and number > most):
        bounds = f"of {least} or more" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} is {value!r}, expected an integer {bounds}.")
    return number
