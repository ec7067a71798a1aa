"""Tensors copied as ranges of bytes, a megabyte at a time, and read back to be compared.

Copying ranges needs no tensor in memory and cannot change a bit, whatever the dtype.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import CheckpointTensorError, ProofError
from encoder_tools.extraction.checkpoint import open_checkpoint
from encoder_tools.extraction.tensor_account import digest
from encoder_tools.model.tensor_files import CACHE_LINE, Entry, TensorLocation, chunks, header_bytes

_EXPONENTS: dict[str, tuple[Any, int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def write_tensors(
    path: Path, tensors: Mapping[str, TensorLocation], zeros: Mapping[str, tuple[int, ...]] | None = None
) -> None:
    """Write a safetensors file whose tensors are copies of ranges of other files.

    :param tensors: source by target name.
    :param zeros: shapes of tensors of zeros to add, of the dtype of the first tensor: a second dtype in the file would
        let transformers load the whole model in it.
    :raises CheckpointTensorError: if a tensor holds NaN or infinity.
    :raises OSError: if the disk is full.
    """
    copies = {name: Entry(location.dtype, location.shape, location.size) for name, location in tensors.items()}
    dtype = next(iter(tensors.values())).dtype
    width = _BYTES.get(dtype, 4)
    blanks = {name: Entry(dtype, shape, width * math.prod(shape)) for name, shape in (zeros or {}).items()}
    with path.open("wb") as out:
        out.write(header_bytes({**copies, **blanks}, beginning=_beginning(tensors.values())))
        for location in tensors.values():
            _copy_range(location, out)
        for blank in blanks.values():
            out.write(bytes(blank.size))


def check_copy(folder: Path, tensors: Mapping[str, TensorLocation]) -> None:
    """Read the written tensors back and compare each with its source, byte for byte.

    :raises ProofError: naming the first tensor that differs.
    """
    written = open_checkpoint(folder).tensors
    for name, source in tensors.items():
        copy = written.get(name)
        if copy is None or (copy.dtype, copy.shape) != (source.dtype, source.shape) or digest(copy) != digest(source):
            raise ProofError(
                f"{name} was not written as it stands in {source.file.name}. Check the disk and try again."
            )


def _beginning(locations: Iterable[TensorLocation]) -> int:
    """Where the data must begin, modulo 64, for the tensors to be aligned as they are in the source.

    Loaders map the file, and the kernel that torch takes for a single row depends on the alignment of the weights, and
    so does its rounding: with another alignment, a text of one token would differ from the source in the last bits.
    """
    votes: Counter[int] = Counter()
    offset = 0
    for location in locations:
        votes[(location.start - offset) % CACHE_LINE] += location.size
        offset += location.size
    return votes.most_common(1)[0][0] // 8 * 8  # safetensors wants eight


def _copy_range(location: TensorLocation, out: BinaryIO) -> None:
    """Copy a tensor's bytes and look at each number on the way: texts of the proof do not meet every word vector.

    :raises CheckpointTensorError: if a number is NaN or infinite.
    """
    seen = 0
    for chunk in chunks(location):
        broken = _not_finite(chunk, location.dtype)
        if broken.any():
            position = seen + int(broken.argmax())
            raise CheckpointTensorError(
                f"{location.name} holds NaN or infinity (number {position} of {math.prod(location.shape)}). The "
                "weights in "
                f"{location.file.name} are damaged: download or save the checkpoint again."
            )
        out.write(chunk)
        seen += len(broken)


def _not_finite(chunk: bytes, dtype: str) -> NDArray[np.bool_]:
    """Where floating-point numbers have all bits of their exponent set: those are the infinities and the NaNs."""
    width, exponent = _EXPONENTS[dtype]
    not_finite: NDArray[np.bool_] = (np.frombuffer(chunk, dtype=width) & width(exponent)) == exponent
    return not_finite
