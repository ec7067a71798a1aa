"""A word table with fewer rows; every other tensor is copied byte for byte."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from encoder_tools.errors import InputError
from encoder_tools.io.files import open_regular
from encoder_tools.model.tensor_files import TensorLocation, chunks, read_header

_OF_WORDS = re.compile(r"(embed|shared|word|wte|tok_|lm_head|predictions|decoder\.(weight|bias))")
_CACHE_LINE = 64


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
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for location in locations:
        shape = [len(kept), *location.shape[1:]] if location.name in cut else list(location.shape)
        size = location.size // location.shape[0] * len(kept) if location.name in cut else location.size
        header[location.name] = {"dtype": location.dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-(8 + len(encoded)) % _CACHE_LINE)
    with target.open("wb") as out, open_regular(source) as file:
        out.write(len(encoded).to_bytes(8, "little") + encoded)
        for location in locations:
            if location.name not in cut:
                for chunk in chunks(location):
                    out.write(chunk)
                continue
            width = location.size // math.prod(location.shape[:1])
            for row in kept:
                file.seek(location.start + row * width)
                out.write(file.read(width))
