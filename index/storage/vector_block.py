"""Blocks of vectors in memory, with their rows and the write that they are a state of."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    """What was kept of a state that was once.

    :ivar rows: int64 (n,), ascending; ``alive``, bool (n,), says which of them were documents then.
    :ivar vectors: of all of them (n, dim), mapped; None if they are in the database alone.
    """

    write_token: WriteToken
    rows: NDArray[np.int64]
    alive: NDArray[np.bool_]
    vectors: NDArray[Any] | None
