"""Rejected rows, written with the reason to a file beside the output.

Each is a line of JSON that :func:`encoder_tools.io.rows.read_rows` reads: NaN is null there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoder_tools.io.files import write_bytes

_here: dict[Path, int] = {}


def rejected_here() -> dict[Path, int]:
    """How many rows this process has rejected, by the file that they are in; a command's exit code tells it."""
    return dict(_here)


def forget_rejected() -> None:
    """Begin to count anew."""
    _here.clear()


def count_rejected(path: Path, count: int) -> None:
    """Add to what :func:`rejected_here` tells."""
    if count:
        _here[path] = _here.get(path, 0) + count


def rejected_line(file: str, number: int, reason: str, row: Any) -> str:
    """What is written about a row."""
    return json.dumps({"file": file, "row": number, "reason": reason, "data": _plain(row)}, allow_nan=False)


class RejectedRows:
    """Takes rows as :data:`encoder_tools.io.rows.Reject` does.

    :param out: what is being made; the rows go to ``<out>.rejected.jsonl``.
    :param file: that the rows are from.
    :param after: rows up to this number were rejected by an earlier run, which resumes: they stay and are not written
        again. Otherwise what an earlier run told of this file is forgotten.

    ``count`` is how many were told, ``first`` the first one's reason;
    ``left_out`` the numbers of those that :meth:`from_reader` was told.
    """

    def __init__(self, out: Path, file: Path, after: int = 0) -> None:
        self.path = out.with_name(f"{out.name}.rejected.jsonl")
        self._file, self._after = file, after
        self.count, self.first = 0, ""
        self.left_out: list[int] = []
        if not after:
            self._forget()

    def __call__(self, number: int, reason: str, row: Any) -> None:
        """Write a row down, with its number and the reason."""
        if number <= self._after:
            return
        self.count += 1
        count_rejected(self.path, 1)
        self.first = self.first or reason
        with self.path.open("a", encoding="utf-8") as out:
            out.write(rejected_line(str(self._file), number, reason, row) + "\n")

    def _forget(self) -> None:
        """Drop the lines about this file."""
        if not self.path.is_file():
            return
        start = json.dumps({"file": str(self._file)})[:-1] + ","
        lines = self.path.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(start)]
        if len(kept) == len(lines):
            return
        if kept:
            write_bytes(self.path, "".join(kept).encode())
        else:
            self.path.unlink()

    def from_reader(self, number: int, reason: str, row: Any) -> None:
        """A row that the reader left out, so that the numbers of those it gives are not 1, 2, 3..."""
        self.left_out.append(number)
        self(number, reason, row)

    def said(self) -> str:
        """What to add to a message: how many, and where they are; empty if there is none."""
        return f", {self._rows()} rejected, see {self.path}" if self.count else ""

    def _rows(self) -> str:
        return f"{self.count} row{'' if self.count == 1 else 's'}"


def _plain(value: Any) -> Any:
    """A value of any kind as JSON has it, whatever was wrong with the row."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(_plain(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
