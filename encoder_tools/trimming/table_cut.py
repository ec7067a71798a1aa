"""A word table with fewer rows; every other tensor is copied byte for byte."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from encoder_tools.errors import InputError
from encoder_tools.io.files import open_regular
from encoder_tools.model.tensor_files import Entry, TensorLocation, chunks, header_bytes, read_header

_OF_WORDS = re.compile(r"(embed|shared|word|wte|tok_|lm_head|predictions|decoder\.(weight|bias))")


def word_tables(files: Sequence[Path], rows: int) -> list[TensorLocation]:
    """The tensors with a row for each piece: the word table, tied copies of it, a head over the vocabulary.

    :raises InputError: if there is none.
    """
    tables = [
        location
        for file in files
        for location in read_header(file)
        if location.shape[:1] == (rows,) and _OF_WORDS.search(location.name)
    ]
    if not any(len(table.shape) == 2 for table in tables):
        raise InputError(
            f"No word table of {rows} rows is in {files[0] if files else 'the weights'}. Only models with one vector a "
            "piece can be trimmed."
        )
    return tables


def cut_tables(source: Path, target: Path, tables: Sequence[TensorLocation], kept: Sequence[int]) -> None:
    """Write a safetensors file whose word tables have the rows ``kept``, in that order.

    :raises FileCorruptError: if ``source`` cannot be read.
    :raises OSError: if the disk is full.
    """
    cut = {table.name for table in tables if table.file == source}
    locations = list(read_header(source))
    entries = {
        location.name: Entry(location.dtype, (len(kept), *location.shape[1:]), _row_bytes(location) * len(kept))
        if location.name in cut
        else Entry(location.dtype, location.shape, location.size)
        for location in locations
    }
    with target.open("wb") as out, open_regular(source) as file:
        out.write(header_bytes(entries))
        for location in locations:
            if location.name not in cut:
                for chunk in chunks(location):
                    out.write(chunk)
                continue
            width = _row_bytes(location)
            for row in kept:
                file.seek(location.start + row * width)
                out.write(file.read(width))


def _row_bytes(table: TensorLocation) -> int:
    return table.size // table.shape[0]
