"""Vectors give the same numbers wherever they are: in memory, mapped, in the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.memory import vectors as module
from index.memory.vectors import HeldRoom, HeldVectors, RememberedVectors, StoredRoom, Vectors
from index.storage.vector_block import Block

DIM = 3


class Table:
    """Stands in for the database: vectors by row, of which some go."""

    def __init__(self) -> None:
        self.by_row: dict[int, Any] = {}

    def read(self, rows: Sequence[int]) -> Iterator[Block]:
        assert list(rows) == sorted(rows)
        for start in range(0, len(rows), 4):
            there = [row for row in rows[start : start + 4] if row in self.by_row]
            matrix = np.array([self.by_row[row] for row in there], dtype=np.float32).reshape(-1, DIM)
            yield Block(np.array(there, dtype=np.int64), matrix)


def check(vectors: Vectors, expected: Any, draw: np.random.Generator) -> None:
    count = len(expected)
    some = np.sort(draw.permutation(count)[: draw.integers(0, count + 1)])
    taken = vectors.take(some)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, expected[some])
    start, stop = sorted(draw.integers(0, count + 1, size=2).tolist())
    np.testing.assert_array_equal(vectors.part(start, stop), expected[start:stop])
    first = vectors.first(stop)
    np.testing.assert_array_equal(first.part(0, count), expected[:stop])


@settings(max_examples=80, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12), mapped=st.integers(0, 10), seed=st.integers(0, 999))
def test_each_state_keeps_its_vectors_while_later_ones_are_made(sizes: list[int], mapped: int, seed: int):
    draw = np.random.default_rng(seed)
    table = Table()
    base = draw.standard_normal((mapped, DIM)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_KEPT", 8)
        held, stored = HeldRoom(base), StoredRoom(DIM, table.read, mapped)
        rows = np.arange(mapped, dtype=np.int64) * 2
        table.by_row |= dict(zip(rows.tolist(), base, strict=True))
        everything, states = base, []
        for size in sizes:
            new = draw.standard_normal((size, DIM)).astype(np.float32)
            numbers = np.arange(len(rows), len(rows) + size, dtype=np.int64) * 2
            for room in (held, stored):
                if draw.random() < 0.3:  # a write that failed after it had been read
                    room.put(len(rows), draw.standard_normal((size + 3, DIM)).astype(np.float32))
                room.put(len(rows), new)
            rows, everything = np.concatenate([rows, numbers]), np.concatenate([everything, new])
            table.by_row |= dict(zip(numbers.tolist(), new, strict=True))
            states.append((held.view(rows), stored.view(rows), everything))
        for in_memory, in_database, expected in states:
            check(in_memory, expected, draw)
            check(in_database, expected, draw)
            remembered = RememberedVectors(in_database, DIM, most=15)
            for _ in range(3):
                some = np.sort(draw.permutation(len(expected))[: draw.integers(0, len(expected) + 1)])
                np.testing.assert_allclose(remembered.take(some), expected[some], atol=2e-3)


def test_a_row_that_is_gone_by_now_is_zeros():
    table = Table()
    table.by_row = {row: np.full(DIM, row) for row in range(10)}
    vectors = StoredRoom(DIM, table.read, 10).view(np.arange(10, dtype=np.int64))
    for gone in (0, 4, 5, 9):
        del table.by_row[gone]
    expected = np.array([[row * (row not in (0, 4, 5, 9))] * DIM for row in range(10)], dtype=np.float32)
    np.testing.assert_array_equal(vectors.part(0, 10), expected)
    np.testing.assert_array_equal(vectors.take(np.array([3, 4, 9])), expected[[3, 4, 9]])


def test_half_precision_is_given_as_float32():
    half = np.array([[0.1, 0.2, 0.3], [1, 2, 3]], dtype=np.float16)
    vectors = HeldVectors(half[:1], half[1:])
    for given_ in (vectors.take(np.array([0, 1])), vectors.part(0, 2), vectors.part(0, 1)):
        assert given_.dtype == np.float32
        np.testing.assert_array_equal(given_, half.astype(np.float32)[: len(given_)])
