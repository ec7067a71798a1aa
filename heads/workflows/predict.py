"""Predictions for files of any size: a few rows in memory, and an interrupted run resumes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from encoder_tools.aliases import Log, Reject
from encoder_tools.errors import FileCorruptError, InputError, SaveError
from encoder_tools.io.columns import TEXT_AND_LABEL, LabeledColumns
from encoder_tools.io.files import read_json, replacing, write_json
from encoder_tools.io.parquet_writer import write_parquet
from encoder_tools.io.rejected_rows import RejectedRows
from encoder_tools.io.rows import Numbered, Reading, columns_of, count_rows
from encoder_tools.protocols import TextEncoder
from heads.labeled import rows_of
from heads.serving.batch import classify
from heads.serving.fitted_head import FittedHead, Prediction
from heads.serving.serialization import load_head

_BATCH = 256
_OUTPUTS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_OURS = frozenset(
    ("row", "value", "label", "probability", "chosen", "abstained", "out_of_scope", "pieces", "labels")
)  # fields of a line; an interrupted run resumes by "row"


class Predicted(NamedTuple):
    """What :func:`predict_file` did.

    :ivar rows: in the output.
    :ivar rejected: rows that could not be used, if any.
    """

    rows: int
    rejected: RejectedRows


class Begun(NamedTuple):
    """What an earlier run left: how many rows it wrote, and the number of the last."""

    written: int
    last: int


@dataclass(frozen=True)
class Job:
    """What is predicted where.

    :ivar out: JSON Lines, CSV, TSV or Parquet, as its name says: one row per row that could be read, with its number in
        the file; there when all is done.
    :ivar identity: of the input, the head and the model, as JSON; a partial file of another one is refused.
    :ivar top: labels per row.
    :ivar keep: columns of the input that are written too; none may have the name of a field that is written anyway.
    :ivar chunk: whether texts longer than the model reads are predicted in chunks.
    """

    out: Path
    identity: dict[str, Any]
    columns: LabeledColumns
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
    def progress_file(self) -> Path:
        """What the partial file was begun with."""
        return self.out.with_name(self.out.name + ".partial.json")


def predict_file(
    encoder: TextEncoder,
    head: str | Path,
    file: str | Path,
    out: str | Path,
    *,
    columns: LabeledColumns = TEXT_AND_LABEL,
    top: int = 3,
    keep: Sequence[str] = (),
    chunk: bool = True,
    split: str = "train",
    log: Log = lambda _: None,
    progress: bool | None = False,
) -> Predicted:
    """Predict the labels of every row of a file that may be larger than memory.

    An interrupted run resumes when it is started again with the same arguments. Rows that cannot be used are written to
    ``OUT.rejected.jsonl`` with the reason.

    :param encoder: the model that the head belongs to.
    :param head: folder of the head.
    :param file: CSV, TSV, JSON, JSON Lines or Parquet, or a folder with a dataset.
    :param out: .jsonl, .csv, .tsv or .parquet; an existing file is replaced when all is done.
    :param columns: which columns are the text, and how the file is written.
    :param top: labels per row.
    :param keep: columns of the input that are written too.
    :param chunk: read all of long texts, in chunks; else only their beginning.
    :param split: of a dataset.
    :param progress: a bar on stderr; None shows it on a terminal.
    :return: how many rows were predicted, and the file of rejected rows.
    :raises FingerprintError: if the head belongs to another model.
    :raises InputError: for a column that does not exist, or if what was begun is of another file, head or model.
    :raises SaveError: if the disk is full; the next run resumes there.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from encoder_tools import OnnxEncoder
        >>> from heads import LinearHead, predict_file, save_head
        >>> encoder = OnnxEncoder()
        >>> texts, labels = ["my card is lost", "card stolen", "exchange rate", "rate of the euro"], list("aabb")
        >>> save_head(LinearHead(encoder).fit(texts, labels).to_fitted(), "head")
        >>> _ = Path("in.jsonl").write_text('{"text": "where is my card?"}')
        >>> predict_file(encoder, "head", "in.jsonl", "out.jsonl").rows
        1
    """
    from tqdm import tqdm

    file, folder, out = Path(file), Path(head), Path(out)
    fitted = load_head(folder, encoder=encoder)
    settings = {"text": tuple(columns.text), "top": top, "cut": not chunk, "keep": tuple(keep), "split": split}
    job = Job(out, identity_of(file, folder, encoder, **settings), columns, top, tuple(keep), chunk)
    check_kept(file, split, job)
    begun = resume(job)
    rejected = RejectedRows(out, file, begun.last)
    cut_rejected(rejected.path, begun.last)
    if begun.written:
        log(f"resuming after row {begun.last}")
    written = begun.written
    disable = None if progress is None else not progress
    total = None if disable else count_rows(file)
    with tqdm(unit="row", total=total, initial=written, disable=disable) as bar:
        for rows in predict_rows(encoder, fitted, rows_of(file, split, rejected, columns), job, rejected, begun):
            bar.update(rows - written)
            written = rows
    return Predicted(written, rejected)


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
    """Prepare to resume an earlier run; a line that was half written is removed.

    :raises InputError: if what was begun is of another file, head or model.
    """
    if not job.progress_file.exists() or not job.partial.exists():
        job.partial.unlink(missing_ok=True)
        write_json(job.progress_file, job.identity)
        return Begun(0, 0)
    try:
        state = read_json(job.progress_file)
    except FileCorruptError:
        state = {}
    if state != job.identity:
        differs = ", ".join(sorted(name for name in job.identity if state.get(name) != job.identity[name]))
        raise InputError(
            f"{job.partial} was begun with another {differs or 'setting'}. Delete it and {job.progress_file.name} "
            "to start "
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
    :raises SaveError: if the disk is full; what was yielded stays, and the next run resumes there.
    """
    written = begun.written
    waiting: list[tuple[Numbered, str]] = []
    try:
        with job.partial.open("ab") as file:
            for entry in rows:
                if entry.number <= begun.last:
                    continue
                try:
                    waiting.append((entry, job.columns.text_of(entry.row)))
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
        job.progress_file.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(
            f"{job.out} cannot be written ({error.strerror}). Make room and run it again: it resumes."
        ) from None
    yield written + len(waiting)


def check_kept(file: Path, split: str, job: Job) -> None:
    """Check that columns that are to be kept are there.

    :raises InputError: naming one that is not.
    """
    if not job.keep:
        return
    names = columns_of(file, Reading(split, job.columns.encoding, job.columns.delimiter))
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


def cut_rejected(rejected_file: Path, last: int) -> None:
    """Remove rows after ``last``, which are predicted again, from the file of rejected rows."""
    if not rejected_file.exists():
        return
    kept = [
        line
        for line in rejected_file.read_text("utf-8").splitlines()
        if (_row_number(line.encode()) or last + 1) <= last
    ]
    rejected_file.write_text("".join(line + "\n" for line in kept), "utf-8")


def _lines(encoder: TextEncoder, head: FittedHead, waiting: list[tuple[Numbered, str]], job: Job) -> bytes:
    if not waiting:
        return b""
    texts = [text for _, text in waiting]
    predicted = classify(encoder, texts, {"": head}, top=job.top, chunk=job.chunk)[""]
    return b"".join(
        json.dumps(_described(entry, prediction, job.keep), ensure_ascii=False, default=str).encode("utf-8", "replace")
        + b"\n"
        for (entry, _), prediction in zip(waiting, predicted, strict=True)
    )


def _described(entry: Numbered, prediction: Prediction, keep: tuple[str, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {"row": entry.number} | {name: entry.row.get(name) for name in keep}
    if prediction.value is not None:
        return described | {"value": prediction.value}
    best = prediction.labels[0]
    described |= {"label": best.label, "probability": round(best.probability, 6)}
    if prediction.chosen is not None:
        described["chosen"] = list(prediction.chosen)
    else:
        described["abstained"] = prediction.abstained
    if prediction.out_of_scope is not None:
        described["out_of_scope"] = prediction.out_of_scope
    if prediction.pieces > 1:
        described["pieces"] = prediction.pieces
    return described | {"labels": [[entry.label, round(entry.probability, 6)] for entry in prediction.labels]}


def _row_number(line: bytes) -> int | None:
    """Of a whole line; None if it was cut."""
    if not line.endswith((b"\n", b"}")):
        return None
    try:
        number = msgspec.json.decode(line, type=dict[str, Any]).get("row")
    except msgspec.DecodeError:
        return None
    return number if isinstance(number, int) else None
