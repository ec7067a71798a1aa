"""Short pieces of stored texts, as stand-ins for queries."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_WORDS, _CHARACTERS = (2, 4), (4, 12)  # of a piece: fewest and most; characters where there are no spaces


def pieces_of(texts: Iterable[str], generator: np.random.Generator) -> list[str]:
    """One piece of each text that has words."""
    pieces = []
    for text in texts:
        words = text.split()
        parts, joint, (least, most) = (words, " ", _WORDS) if len(words) > 1 else (list(text.strip()), "", _CHARACTERS)
        length = int(generator.integers(least, most + 1))
        start = int(generator.integers(max(1, len(parts) - length + 1)))
        piece = joint.join(parts[start : start + length])
        if piece:
            pieces.append(piece)
    return pieces
