"""Predictions for files of any size: a few rows in memory, and a run that was cut goes on where it stopped."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from encoder_tools.errors import FileCorruptError, InputError, SaveError
from encoder_tools.io.files import read_json, replacing, write_json
from encoder_tools.io.parquet_writer import write_parquet
from encoder_tools.io.rows import Numbered, Reading, Reject, columns_of
from encoder_tools.protocols import TextEncoder
from heads.data.columns import Layout
from heads.serving.batch import classify
from heads.serving.fitted_head import FittedHead, Judgement

_BATCH = 256
_OUTPUTS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_OURS = frozenset(
    ("row", "value", "label", "probability", "chosen", "abstained", "out_of_scope", "pieces", "labels")
)  # fields of a line, of which "row" is what a run goes on by


class Begun(NamedTuple):
    """What an earlier run left: how many rows it wrote, and the number of the last."""

    written: int
    last: int


@dataclass(frozen=True)
class Job:
    """What is predicted where.

    :ivar out: JSON Lines, CSV, TSV or Parquet, as its name says: one row per row that could be read, with its number in
        the file; there when all is done.
    :ivar identity: of what goes in and what judges it, as JSON; a partial file of another one is refused.
    :ivar top: labels per row.
    :ivar keep: columns of the input that are written too; none may have the name of a field that is written anyway.
    :ivar chunk: whether texts longer than the model reads are judged in pieces.
    """

    out: Path
    identity: dict[str, Any]
    layout: Layout
    top: int = 3
    keep: tuple[str, ...] = ()
    chunk: bool = True

    def __post_init__(self) -> None:
        if not self.out.name.lower().endswith(_OUTPUTS):
            raise InputError(f"{self.out} is of no known kind, expected {', '.join(_OUTPUTS)}. Choose another name.")
        taken = sorted(_OURS.intersection(self.keep))
        if taken:
            raise InputError(
                f"Column {taken[0]!r} cannot be kept: the output has a field of that name. Rename the column."
            )

    @property
    def partial(self) -> Path:
        """Where rows are written until all are there."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def mark(self) -> Path:
        """Says what the partial file is of."""
        return self.out.with_name(self.out.name + ".partial.json")


def identity_of(file: Path, folder: Path, encoder: TextEncoder, **settings: Any) -> dict[str, Any]:
    """What must be the same for a run to resume: the input, the head in a folder, the model and the settings."""
    stat = file.stat() if file.exists() else None
    return json.loads(  # type: ignore[no-any-return]  # as it will be read again: tuples are lists
        json.dumps(
            {
                "file": str(file.resolve()),
                "size": stat.st_size if stat else 0,
                "changed": stat.st_mtime_ns if stat else 0,
                "head": read_json(folder / "head.json").get("checksum"),
                "model": str(encoder.fingerprint),
                **settings,
            }
        )
    )


def resume(job: Job) -> Begun:
    """Make ready to go on after an earlier run; a line that it wrote half is cut off.

    :raises InputError: if what was begun is of another file, head or model.
    """
    if not job.mark.exists() or not job.partial.exists():
        job.partial.unlink(missing_ok=True)
        write_json(job.mark, job.identity)
        return Begun(0, 0)
    try:
        found = read_json(job.mark)
    except FileCorruptError:
        found = {}
    if found != job.identity:
        differs = ", ".join(sorted(name for name in job.identity if found.get(name) != job.identity[name]))
        raise InputError(
            f"{job.partial} was begun with another {differs or 'setting'}. Delete it and {job.mark.name} to start "
            "again."
        )
    written, last = 0, 0
    with job.partial.open("rb+") as file:
        end = 0
        for line in file:
            number = _row_number(line)
            if number is None:
                break
            written, last, end = written + 1, number, end + len(line)
        file.truncate(end)
    return Begun(written, last)


def predict_rows(
    encoder: TextEncoder, head: FittedHead, rows: Iterable[Numbered], job: Job, reject: Reject, begun: Begun
) -> Iterator[int]:
    """Judge the rows after those of an earlier run, a batch at a time.

    :param rows: of the whole input, from its beginning.
    :param reject: is told of rows without a text.
    :param begun: what :func:`resume` gave.
    :return: how many rows are in the file by then, those of the earlier run included.
    :raises SaveError: if the disk is full; what was yielded stays, and the next run goes on there.
    """
    written = begun.written
    waiting: list[tuple[Numbered, str]] = []
    try:
        with job.partial.open("ab") as file:
            for entry in rows:
                if entry.number <= begun.last:
                    continue
                try:
                    waiting.append((entry, job.layout.text_of(entry.row)))
                except InputError as error:
                    reject(entry.number, str(error), dict(entry.row))
                if len(waiting) == _BATCH:
                    file.write(_lines(encoder, head, waiting, job))
                    file.flush()
                    written += len(waiting)
                    waiting = []
                    yield written
            file.write(_lines(encoder, head, waiting, job))
        _finish(job)
        job.mark.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(
            f"{job.out} cannot be written ({error.strerror}). Make room and run again: it goes on."
        ) from None
    yield written + len(waiting)


def check_kept(file: Path, split: str, job: Job) -> None:
    """Check that columns that are to be kept are there.

    :raises InputError: naming one that is not.
    """
    if not job.keep:
        return
    names = columns_of(file, Reading(split, job.layout.encoding, job.layout.delimiter))
    unknown = [name for name in job.keep if name not in names]
    if unknown:
        raise InputError(f"{file} has no column {unknown[0]!r} to keep, it has {', '.join(names)}.")


def _finish(job: Job) -> None:
    """Put what is whole in its place, in the format that its name says."""
    name = job.out.name.lower()
    if name.endswith(".parquet"):
        write_parquet(job.out, lambda: _whole_lines(job.partial))
    elif name.endswith((".csv", ".tsv")):
        _write_cells(job, "\t" if name.endswith(".tsv") else ",")
    else:
        job.partial.replace(job.out)
        return
    job.partial.unlink()


def _write_cells(job: Job, delimiter: str) -> None:
    """As cells; a list is written as JSON."""
    names = dict.fromkeys(name for line in _whole_lines(job.partial) for name in line)
    with replacing(job.out) as file:
        text = TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, delimiter=delimiter)
        writer.writerow(names)
        writer.writerows([_cell(line.get(name)) for name in names] for line in _whole_lines(job.partial))
        text.flush()
        text.detach()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield msgspec.json.decode(line)


def cut_rejected(aside: Path, last: int) -> None:
    """Take rows after ``last``, which are judged again, out of the file of those put aside."""
    if not aside.exists():
        return
    kept = [line for line in aside.read_text("utf-8").splitlines() if (_row_number(line.encode()) or last + 1) <= last]
    aside.write_text("".join(line + "\n" for line in kept), "utf-8")


def _lines(encoder: TextEncoder, head: FittedHead, waiting: list[tuple[Numbered, str]], job: Job) -> bytes:
    if not waiting:
        return b""
    texts = [text for _, text in waiting]
    judged = classify(encoder, texts, {"": head}, top=job.top, chunk=job.chunk)[""]
    return b"".join(
        json.dumps(_described(entry, found, job.keep), ensure_ascii=False, default=str).encode("utf-8", "replace")
        + b"\n"
        for (entry, _), found in zip(waiting, judged, strict=True)
    )


def _described(entry: Numbered, found: Judgement, keep: tuple[str, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {"row": entry.number} | {name: entry.row.get(name) for name in keep}
    if found.value is not None:
        return described | {"value": found.value}
    best = found.labels[0]
    described |= {"label": best.label, "probability": round(best.probability, 6)}
    if found.chosen is not None:
        described["chosen"] = list(found.chosen)
    else:
        described["abstained"] = found.abstained
    if found.out_of_scope is not None:
        described["out_of_scope"] = found.out_of_scope
    if found.pieces > 1:
        described["pieces"] = found.pieces
    return described | {"labels": [[entry.label, round(entry.probability, 6)] for entry in found.labels]}


def _row_number(line: bytes) -> int | None:
    """Of a whole line; None if it was cut."""
    if not line.endswith((b"\n", b"}")):
        return None
    try:
        number = msgspec.json.decode(line, type=dict[str, Any]).get("row")
    except msgspec.DecodeError:
        return None
    return number if isinstance(number, int) else None
