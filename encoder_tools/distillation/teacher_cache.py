"""Teacher states cached in float16 on disk: computed once per text."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError
from encoder_tools.io.files import read_json, save_error, write_json
from encoder_tools.training.engine.schedule import Rows

_STATES, _SEEN, _ABOUT = "states.f16", "seen.u8", "states.json"
_FORMAT_VERSION = 1


class TeacherCache:
    """A folder with the states of each text's tokens, for some levels of the teacher.

    A text counts as seen on disk only after :meth:`flush`, so that a run that is killed finds no text whose states were
    not written. States are used in the precision they are kept in from the first time on, so that a run in slices ends
    in the bits of a straight one.

    :param folder: made if it is not there; emptied if it holds states for another ``key``.
    :param key: what the states depend on: teacher, texts, levels.
    :param lengths: tokens of each text, of shape (n_texts,).
    :raises SaveError: if the disk has no room for them.
    """

    def __init__(self, folder: Path, key: str, lengths: NDArray[np.int64], levels: int, width: int) -> None:
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        shape = (int(self._starts[-1]), levels, width)
        _prepare(folder, {"format_version": _FORMAT_VERSION, "key": key, "shape": list(shape)}, len(lengths))
        try:
            self._states = np.memmap(folder / _STATES, np.float16, "r+", shape=shape)
            self._seen = np.memmap(folder / _SEEN, np.uint8, "r+", shape=(len(lengths),))
        except (OSError, ValueError) as error:
            raise FileCorruptError(f"{folder} holds no states of this run ({error}). Remove the folder.") from None
        self._known = self._seen != 0

    def knows(self, rows: Rows) -> bool:
        """Whether all of these texts were seen."""
        return bool(self._known[rows].all())

    def keep(self, rows: Rows, states: torch.Tensor) -> None:
        """Keep those of ``states``, (B, L, levels, width), that are not known yet."""
        halves = states.detach().to("cpu", torch.float16).numpy()
        for line, row in enumerate(rows):
            if not self._known[row]:
                start, end = self._starts[row], self._starts[row + 1]
                self._states[start:end] = halves[line, : end - start]
        self._known[rows] = True

    def read(self, rows: Rows, length: int) -> torch.Tensor:
        """States (B, length, levels, width) in float32, zero where a text has no token."""
        made = np.zeros((len(rows), length, *self._states.shape[1:]), dtype=np.float32)
        for line, row in enumerate(rows):
            start, end = self._starts[row], self._starts[row + 1]
            made[line, : end - start] = self._states[start:end]
        return torch.from_numpy(made)

    def flush(self) -> None:
        """Write states, then which texts were seen."""
        self._states.flush()
        self._seen[:] = self._known
        self._seen.flush()


def _prepare(folder: Path, about: dict[str, object], texts: int) -> None:
    """Empty files of the right size, unless the folder holds states of this key."""
    if (folder / _ABOUT).is_file() and read_json(folder / _ABOUT) == about:
        return
    shutil.rmtree(folder, ignore_errors=True)
    shape = about["shape"]
    assert isinstance(shape, list)  # noqa: S101 - built above
    try:
        folder.mkdir(parents=True)
        for name, size in ((_STATES, 2 * int(np.prod(shape))), (_SEEN, texts)):
            with (folder / name).open("wb") as file:
                file.truncate(size)
    except OSError as error:
        raise save_error(folder, error) from error
    write_json(folder / _ABOUT, about)


def room_for(folder: Path, tokens: int, levels: int, width: int) -> bool:
    """Whether states would take at most a quarter of the free disk."""
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    return 4 * 2 * tokens * levels * width <= shutil.disk_usage(existing).free
