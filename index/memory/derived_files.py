"""Files beside a collection's database that are derived from it: written whole, and checked before they are read."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import xxhash
from numpy.typing import NDArray

from encoder_tools.io.files import replacing

SUFFIX = ".bin"
_PART = 2**22  # bytes that are read at a time


class File(msgspec.Struct, frozen=True):
    """What a file must be.

    :ivar checksum: XXH3-64 of it.
    """

    name: str
    size: int
    checksum: str


def write_file(folder: Path, kind: str, fill: Callable[[Callable[[bytes], int]], object]) -> File:
    """Write a file in parts, under a name of its own.

    :param kind: its name begins so.
    :param fill: is given what writes a part.
    :raises SaveError: if the disk is full or read-only.
    """
    name = f"{kind}-{uuid.uuid4().hex[:12]}{SUFFIX}"
    state, size = xxhash.xxh3_64(), 0
    with replacing(folder / name) as file:

        def write(data: bytes) -> int:
            nonlocal size
            file.write(data)
            state.update(data)
            size += len(data)
            return len(data)

        fill(write)
    return File(name, size, state.hexdigest())


def wrong(folder: Path, file: File) -> str:
    """Why a file is not to be mapped, or nothing."""
    return _wrong_size(folder, file) or _wrong_checksum(folder, file)


def _wrong_checksum(folder: Path, file: File) -> str:
    """Why a file is not what its manifest says, or nothing."""
    state = xxhash.xxh3_64()
    try:
        with (folder / file.name).open("rb", buffering=0) as opened:
            while data := opened.read(_PART):
                state.update(data)
    except OSError as error:
        return f"what is on disk cannot be read ({error})"
    return "" if state.hexdigest() == file.checksum else not_as_said(file)


def _wrong_size(folder: Path, file: File) -> str:
    """Why a file is not to be read, or nothing."""
    if Path(file.name).name != file.name:
        return "what is on disk is damaged (its manifest names what is elsewhere)"
    try:
        size = (folder / file.name).stat().st_size
    except FileNotFoundError:
        return f"there is no {file.name} on disk"
    except (OSError, ValueError) as error:
        return f"what is on disk cannot be read ({error})"
    return "" if size == file.size else not_as_said(file)


def read_into(folder: Path, file: File, *into: NDArray[Any]) -> str:
    """Fill arrays from a file; what is wrong with it, or nothing."""
    why = _wrong_size(folder, file)
    if why or sum(part.nbytes for part in into) != file.size:
        return why or not_as_said(file)
    state = xxhash.xxh3_64()
    try:
        with (folder / file.name).open("rb", buffering=0) as opened:
            for part in into:
                view = memoryview(part.data).cast("B")
                _fill(opened, view)
                state.update(view)
    except OSError as error:
        return f"what is on disk cannot be read ({error})"
    return "" if state.hexdigest() == file.checksum else not_as_said(file)


def not_as_said(file: File) -> str:
    """That a file is damaged."""
    return f"what is on disk is damaged ({file.name} is not as its manifest says)"


def _fill(file: Any, view: memoryview) -> None:
    """Read until a view is full: one call reads two gigabytes at most."""
    at = 0
    while at < len(view):
        count = file.readinto(view[at:])
        if not count:
            raise OSError("it ended early")
        at += count


def sweep(folder: Path, kinds: tuple[str, ...], kept: set[str]) -> None:
    """Remove the files of some kinds that no manifest names any more."""
    for kind in kinds:
        for path in folder.glob(f"{kind}-*{SUFFIX}"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
