"""How a collection keeps its vectors."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Storage: TypeAlias = Literal["float32", "float16", "int8", "binary"]
"""``float32``: as they are. ``float16``: half of that; a cosine differs in the fifth digit. ``int8``: float16 in the
database alone, from which a search reads the few that its codes lead it to; in memory are one byte a number and the
links of the graph. ``binary``: as int8, with one bit a number in memory."""

STORAGES: tuple[str, ...] = get_args(Storage)


def dtype_of(storage: str) -> str:
    """NumPy's name of the numbers in the database."""
    return "<f4" if storage == "float32" else "<f2"


def held(storage: str) -> bool:
    """Whether the vectors are in memory, or mapped, and not in the database alone."""
    return storage not in ("int8", "binary")
