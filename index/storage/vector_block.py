"""Blocks of vectors in memory, with their rows and the write that they are a state of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.protocols import FloatMatrix


class WriteToken(NamedTuple):
    """A state of a database: the number of the last write, and that write's random token as hex.

    Two states with the same token are the same, also where a database was restored and then written to differently.
    """

    sequence: int
    token: str


class Block(NamedTuple):
    """Stored vectors: row numbers int64 (n,), ascending, and unit vectors float32 (n, dim)."""

    rows: NDArray[np.int64]
    vectors: FloatMatrix


class Base(NamedTuple):
    """All vectors of a state that was once."""

    write_token: WriteToken
    block: Block
