"""The postings of a collection in a file beside its database; see :mod:`index.memory.derived_files`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from encoder_tools.io.files import write_bytes
from index.lexical.postings import Postings
from index.memory.derived_files import File, sweep, write_file, wrong
from index.storage.reader import Reader
from index.storage.vector_block import WriteToken

MANIFEST_NAME = "words.json"
_VERSION = 1
_KIND = "words"
_SECTIONS = (
    ("rows", "<i8"),
    ("ends", "<i8"),
    ("stops", "<i8"),
    ("lengths", "<u4"),
    ("documents", "<u4"),
    ("counts", "u1"),
    ("forms", "u1"),
)
"""In the order in which they lie in the file, the widest numbers first, so that each is aligned."""


class _Manifest(msgspec.Struct, frozen=True):
    """What there is.

    :ivar rules: of the words; see :attr:`index.text.words.Words.rules`.
    :ivar sequence: of the write after which the postings were made, ``token`` that write's.
    :ivar sizes: how many numbers each section has.
    """

    format_version: int
    rules: str
    sequence: int
    token: str
    sizes: dict[str, int]
    file: File


def save_postings(folder: Path, postings: Postings, rules: str, write_token: WriteToken) -> None:
    """Write postings and their manifest.

    :raises SaveError: if the disk is full or read-only; what was there before still serves.
    """
    arrays = {name: getattr(postings, name).astype(kind, copy=False) for name, kind in _SECTIONS}

    def fill(write: Callable[[bytes], int]) -> None:
        for array in arrays.values():
            write(array.tobytes())

    file = write_file(folder, _KIND, fill)
    sizes = {name: len(array) for name, array in arrays.items()}
    write_bytes(folder / MANIFEST_NAME, msgspec.json.encode(_Manifest(_VERSION, rules, *write_token, sizes, file)))
    sweep(folder, (_KIND,), {file.name})


def read_postings(folder: Path, reader: Reader) -> tuple[Postings, WriteToken] | None:
    """What is on disk, mapped, if it is whole and of a state that the reader's came from."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=_Manifest)
    except (OSError, ValueError, msgspec.DecodeError):
        return None
    known = manifest.format_version == _VERSION and manifest.rules == reader.words.rules
    if not known or reader.token_of(manifest.sequence) != manifest.token or wrong(folder, manifest.file):
        return None
    sizes = [(name, np.dtype(kind), manifest.sizes.get(name, -1)) for name, kind in _SECTIONS]
    if min(size for *_, size in sizes) < 0 or sum(k.itemsize * size for _, k, size in sizes) != manifest.file.size:
        return None
    try:
        data = np.memmap(folder / manifest.file.name, dtype=np.uint8, mode="r") if manifest.file.size else np.empty(0)
    except (OSError, ValueError):
        return None
    arrays: dict[str, Any] = {}
    at = 0
    for name, kind, size in sizes:
        arrays[name] = np.asarray(data[at : at + kind.itemsize * size]).view(kind)
        at += kind.itemsize * size
    return Postings(**arrays), WriteToken(manifest.sequence, manifest.token)
