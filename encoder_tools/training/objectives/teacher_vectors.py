"""Teacher vectors cached on disk in half precision, looked up by text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder_tools.aliases import Log
from encoder_tools.errors import FingerprintError
from encoder_tools.io.files import read_json, write_json
from encoder_tools.protocols import TextEncoder

_CHUNK = 8192


class TeacherVectors:
    """A folder of float16 vectors keyed by a hash of their texts; appendable and resumable.

    Each chunk is two files, ``keys-N.npy`` (uint64) and ``vectors-N.npy`` (float16), the vectors written last: a chunk
    without its vectors is one that was being written when the machine stopped, and is computed again.

    :param folder: where the chunks are; made if it is not there.
    :param encoder: the teacher.
    :raises FingerprintError: if the folder holds vectors of another teacher.
    """

    def __init__(self, folder: Path, encoder: TextEncoder) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._encoder = folder, encoder
        self._check_teacher()
        self._rows: dict[int, tuple[int, int]] = {}
        self._chunks: list[NDArray[np.float16]] = []
        self._next = 0
        for file in sorted(folder.glob("vectors-*.npy")):
            self._add_chunk(int(file.stem.split("-")[1]))

    def ensure(self, texts: Sequence[str], log: Log) -> None:
        """Compute the vectors of those texts that have none yet."""
        missing = [text for text in dict.fromkeys(texts) if text_key(text) not in self._rows]
        for start in range(0, len(missing), _CHUNK):
            part = missing[start : start + _CHUNK]
            number = self._next
            _save(self._folder / f"keys-{number}.npy", np.array([text_key(text) for text in part], dtype=np.uint64))
            _save(self._folder / f"vectors-{number}.npy", self._encoder.encode(part).astype(np.float16))
            self._add_chunk(number)
            log(f"teacher vectors: {start + len(part)} of {len(missing)}")

    def lookup(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """Vectors of shape (len(texts), dim), float16.

        :raises KeyError: if a text has no vector; call :meth:`ensure` first.
        """
        vectors = np.empty((len(texts), self._encoder.dim), dtype=np.float16)
        for line, text in enumerate(texts):
            chunk, row = self._rows[text_key(text)]
            vectors[line] = self._chunks[chunk][row]
        return vectors

    def _add_chunk(self, number: int) -> None:
        keys = np.load(self._folder / f"keys-{number}.npy", allow_pickle=False)
        vectors = np.load(self._folder / f"vectors-{number}.npy", mmap_mode="r", allow_pickle=False)
        self._rows.update({int(key): (len(self._chunks), row) for row, key in enumerate(keys)})
        self._chunks.append(vectors)
        self._next = max(self._next, number + 1)

    def _check_teacher(self) -> None:
        path = self._folder / "teacher.json"
        if not path.is_file():
            write_json(path, {"format_version": 1, "fingerprint": self._encoder.fingerprint, "dim": self._encoder.dim})
        stored = read_json(path).get("fingerprint")
        if stored != self._encoder.fingerprint:
            raise FingerprintError(
                f"{self._folder} holds vectors of teacher {stored}, not of {self._encoder.fingerprint}. "
                "Use another folder for this teacher."
            )


def text_key(text: str) -> int:
    """First 64 bits of the SHA-256 of a text: among a million texts, a collision has odds of 1 in 37 million."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "little")


def _save(path: Path, array: NDArray[np.uint64] | NDArray[np.float16]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
