"""Rows that cannot be used, kept in a file beside the output with the reason: none vanishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from encoder_tools.files import write_bytes


class Aside:
    """Takes rows as :data:`encoder_tools.rows.Reject` does.

    :param out: what is being made; the rows go to ``<out>.rejected.jsonl``.
    :param file: that the rows are from.
    :param after: rows up to this number were told by an earlier run, which goes on: they stay and are not written
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
        self.first = self.first or reason
        line = json.dumps({"file": str(self._file), "row": number, "reason": reason, "data": row}, default=str)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")

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
        return f", {self._rows()} put aside in {self.path}" if self.count else ""

    def _rows(self) -> str:
        return f"{self.count} row{'' if self.count == 1 else 's'}"
