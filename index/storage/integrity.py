"""Verification of a collection against its checksums."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from encoder_tools.errors import FileCorruptError
from index.storage.reader import Reader

_AT_ONCE = 1000
_LENGTH = 1e-3  # how far from one a unit vector's length may be


def verify(reader: Reader, path: Path) -> int:
    """Check the database, each document, each vector, and that they belong together; return how many there are.

    :raises FileCorruptError: naming the first thing that is damaged.
    """
    damage = reader.damage()
    if damage is not None:
        raise FileCorruptError(f"{path} is damaged: {damage}. Restore a backup.")
    rows, last = [], -1
    while part := reader.after(last, _AT_ONCE):
        rows += [row for row, _ in part]
        last = rows[-1]
    count = 0
    for block in reader.vectors():
        expected = np.array(rows[count : count + len(block.rows)], dtype=np.int64)
        if not np.array_equal(block.rows, expected):
            raise FileCorruptError(f"{path}: documents and vectors are not of the same rows. Restore a backup.")
        wrong = np.abs(np.linalg.norm(block.vectors, axis=1) - 1) > _LENGTH
        if wrong.any():
            row = int(block.rows[wrong.argmax()])
            raise FileCorruptError(f"{path}: the vector in row {row} is not of length one. Restore a backup.")
        count += len(block.rows)
    if count != len(rows) or count != reader.count():
        raise FileCorruptError(f"{path} holds {len(rows)} documents and {count} vectors. Restore a backup.")
    return count
