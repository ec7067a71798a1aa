"""Tensors in safetensors files: where their bytes are, and reading and converting them piece by piece.

A safetensors file is eight bytes of header length, a JSON header, then the tensors' bytes.
Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from encoder_tools.errors import FileCorruptError, one_line
from encoder_tools.io.files import open_regular

_CHUNK = 1 << 20
CACHE_LINE = 64
"""Bytes; no kernel looks further at how a tensor is aligned."""
_INTEGERS = ("I64", "I32", "I16", "I8", "U8", "BOOL")
_AS_FLOAT32: Mapping[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


class TensorLocation(NamedTuple):
    """One tensor of a safetensors file.

    :ivar dtype: as safetensors names it, such as "BF16".
    :ivar start: offset of its first byte in the file.
    :ivar end: offset after its last byte.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


def read_header(file: Path) -> Iterator[TensorLocation]:
    """Locations of all tensors of a file, after the safetensors library has validated it (sizes, overlaps, length)."""
    _validate(file)
    with file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            yield TensorLocation(file, name, entry["dtype"], tuple(entry["shape"]), start, end)


def _validate(file: Path) -> None:
    with open_regular(file):  # says what hinders reading, before the library says that the file is no good
        pass
    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise FileCorruptError(
            f"{file} is not a whole safetensors file ({one_line(error)}). Download it again."
        ) from None


def chunks(location: TensorLocation) -> Iterator[bytes]:
    """The bytes of a tensor, a megabyte at a time.

    :raises FileCorruptError: if the file cannot be read, or ends inside the tensor.
    """
    with open_regular(location.file) as file:
        file.seek(location.start)
        left = location.size
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise FileCorruptError(f"{location.file} ended inside {location.name}. Download it again.")
            left -= len(chunk)
            yield chunk


class Entry(NamedTuple):
    """One tensor that is about to be written.

    :ivar dtype: as safetensors names it.
    :ivar size: bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    size: int


def header_bytes(entries: Mapping[str, Entry], *, beginning: int = 0) -> bytes:
    """What stands in a safetensors file before the tensors' bytes, which follow in the order of ``entries``.

    :param beginning: where the data begins, modulo 64; aligned data can be used where the file is mapped.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, entry in entries.items():
        span = [offset, offset + entry.size]
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": span}
        offset += entry.size
    encoded = json.dumps(header, separators=(",", ":")).encode("utf-8")
    encoded += b" " * ((beginning - 8 - len(encoded)) % CACHE_LINE)
    return len(encoded).to_bytes(8, "little") + encoded


def is_float32(file: Path) -> bool:
    """Whether every floating-point tensor of a safetensors file is stored as float32."""
    return all(location.dtype in ("F32", *_INTEGERS) for location in read_header(file))


def copy_as_float32(source: Path, target: Path) -> None:
    """Write a safetensors file with every floating-point tensor of ``source`` as float32, a megabyte at a time.

    :raises FileCorruptError: if ``source`` cannot be read, or has a dtype that is no floating-point or integer number.
    :raises OSError: if the disk is full.
    """
    locations = list(read_header(source))
    entries = {
        location.name: Entry(location.dtype, location.shape, location.size)
        if location.dtype in _INTEGERS
        else Entry("F32", location.shape, 4 * math.prod(location.shape))
        for location in locations
    }
    with target.open("wb") as out:
        out.write(header_bytes(entries))
        for location in locations:
            for chunk in chunks(location):
                out.write(chunk if location.dtype in _INTEGERS else as_float32(chunk, location).tobytes())


def as_float32(chunk: bytes, location: TensorLocation) -> NDArray[np.float32]:
    """Some of a tensor's bytes as float32 numbers.

    :raises FileCorruptError: if the tensor is stored as no floating-point number of 16 bits or more.
    """
    if location.dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(chunk, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)
    if location.dtype not in _AS_FLOAT32:
        raise FileCorruptError(
            f"{location.name} in {location.file} is stored as {location.dtype}, expected a floating-point number of 16 "
            "bits or more. Use the weights from before they were quantized."
        )
    return np.frombuffer(chunk, dtype=_AS_FLOAT32[location.dtype]).astype(np.float32)
