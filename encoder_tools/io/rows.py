"""Rows of a file or a folder, each a mapping from column to value, whatever format they are in."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from encoder_tools.aliases import Reject, Row
from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, one_line
from encoder_tools.extras import require_extra
from encoder_tools.io.csv_rows import separated_rows
from encoder_tools.io.decoding import lines_of, opener
from encoder_tools.io.files import replacing
from encoder_tools.io.parquet_rows import as_json, parquet_rows

_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_COLUMNS_BY = 1000  # rows: an object of JSON may lack what others have
_DATASET_FILES = ("dataset_dict.json", "state.json")  # what datasets' save_to_disk leaves

__all__ = [
    "Numbered",
    "Reading",
    "Reject",
    "Row",
    "columns_of",
    "count_rows",
    "is_dataset",
    "kind_of",
    "numbered",
    "read_rows",
    "write_rows",
]


@dataclass(frozen=True)
class Reading:
    """How files are read.

    :ivar split: which of a folder.
    :ivar encoding: of text files; None tells UTF-16 and takes UTF-8 else.
    :ivar delimiter: of CSV files; None tells it by the first rows.
    :ivar columns: of Parquet files, those that are wanted; None takes all.
    """

    split: str = "train"
    encoding: str | None = None
    delimiter: str | None = None
    columns: Collection[str] | None = None


def read_rows(
    path: Path, split: str = "train", reject: Reject | None = None, reading: Reading | None = None
) -> Iterator[Row]:
    """Rows in their order.

    :param path: CSV, TSV without quoting, JSON Lines (.jsonl, .ndjson) or a JSON array (.json), each also
        gzip-compressed; Parquet; or a folder: one that ``datasets`` wrote with ``save_to_disk``, or Parquet files that
        are named by their split, as on Hugging Face. Endings may be capitals.
    :param split: which of a folder.
    :param reject: is told of damaged lines of JSON and of rows with more or fewer cells than the header, which are then
        left out, their numbers still counting; None raises at the first damaged line and lets such rows be.
    :param reading: all of this and more; ``split`` is then that of it.
    :raises FileMissingError: if there is no such file or split.
    :raises FileCorruptError: if it is damaged.
    :raises InputError: if it is of another kind, has two columns of one name, or a column of bytes.
    """
    how = reading or Reading(split)
    if path.is_dir():
        yield from _folder(path, how)
        return
    kind = kind_of(path)
    if kind is None:
        raise InputError(f"{path} is of no known kind, expected {', '.join(_ENDINGS)}. Rename or convert the file.")
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist. Check the name; in a recipe it is relative to the recipe.")
    if kind == ".parquet":
        yield from parquet_rows(path, how.columns)
    elif kind in (".jsonl", ".ndjson"):
        yield from _json_lines(path, reject, how.encoding)
    elif kind == ".json":
        yield from _json(path, reject, how.encoding)
    else:
        yield from separated_rows(path, kind, reject, how.encoding, how.delimiter)


def kind_of(path: Path) -> str | None:
    """The ending by which a file of rows is told, small letters; None for another file."""
    name = path.name.lower().removesuffix(".gz")
    return next((kind for kind in _ENDINGS if name.endswith(kind)), None)


class Numbered(NamedTuple):
    """A row and its number in the file, from 1 on."""

    number: int
    row: Row


def numbered(rows: Iterable[Row], rejected: Sequence[int]) -> Iterator[Numbered]:
    """Rows with their numbers, where those in ``rejected``, which grows meanwhile, were left out."""
    number, seen = 0, 0
    for row in rows:
        number += 1
        while seen < len(rejected) and rejected[seen] == number:
            number, seen = number + 1, seen + 1
        yield Numbered(number, row)


def is_dataset(path: Path) -> bool:
    """Whether a folder is one that :func:`read_rows` reads, whatever else is in it, such as its card."""
    return _is_saved(path) or next(path.rglob("*.parquet"), None) is not None


def columns_of(path: Path, reading: Reading | None = None) -> list[str]:
    """Names of the columns, by the first rows; errors as :func:`read_rows`, and if there is no row."""
    rows = read_rows(path, reject=lambda *_: None, reading=reading)
    names = dict.fromkeys(str(name) for row in islice(rows, _COLUMNS_BY) for name in row)
    if not names:
        raise FileCorruptError(f"{path} is empty, expected rows with columns.")
    return list(names)


def count_rows(path: Path) -> int | None:
    """About how many rows :func:`read_rows` gives, for a bar: lines, or what a Parquet file says; None if unknown."""
    if path.is_dir() or not path.is_file():
        return None
    if path.suffix.lower() == ".parquet":
        require_extra("parquet", "pyarrow")
        import pyarrow.parquet

        try:
            return int(pyarrow.parquet.read_metadata(path).num_rows)
        except (pyarrow.ArrowException, OSError, ValueError):
            return None  # whoever reads it says so
    try:
        with opener(path)(path, "rb") as file:
            blocks: Iterator[bytes] = iter(lambda: file.read(2**20), b"")
            return sum(block.count(b"\n") for block in blocks)
    except (OSError, EOFError, zlib.error):
        return None


def write_rows(path: Path, rows: Iterator[Row]) -> None:
    """Write rows as JSON Lines, a row in memory at a time.

    :raises SaveError: if writing fails; what stood there before is untouched.
    """
    with replacing(path) as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")


def _json_lines(path: Path, reject: Reject | None, encoding: str | None) -> Iterator[Row]:
    row_number = 0
    for number, line in enumerate(lines_of(path, encoding), start=1):
        if line.strip():
            row_number += 1
            try:
                row = msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, RecursionError) as error:
                if reject is None:
                    raise FileCorruptError(f"{path}, line {number}: {error}. Repair the line.") from None
                reject(row_number, f"line {number}: {error}", line.rstrip("\n"))
                continue
            yield row


def _json(path: Path, reject: Reject | None, encoding: str | None) -> Iterator[Row]:
    """An array of objects, or lines of them in a file that is named so."""
    first = next((line for line in lines_of(path, encoding) if line.strip()), "")
    if not first.lstrip("\ufeff \t").startswith("["):
        try:
            msgspec.json.decode(first.removeprefix("\ufeff") or "{}", type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            raise FileCorruptError(f"{path} is neither a JSON array nor lines of objects ({error}).") from None
        yield from _json_lines(path, reject, encoding)
        return
    try:
        rows = msgspec.json.decode("".join(lines_of(path, encoding)).removeprefix("\ufeff"), type=list[Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise FileCorruptError(f"{path} is no whole JSON array ({error}). Repair it.") from None
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield row
        elif reject is None:
            raise FileCorruptError(f"{path}, item {number} is no object, expected one of columns. Repair it.")
        else:
            reject(number, f"item {number} is no object", row)


def _folder(path: Path, how: Reading) -> Iterator[Row]:
    split = how.split
    if _is_saved(path):
        yield from _saved(path, split)
        return
    files = sorted(path.rglob("*.parquet"))
    chosen = [file for file in files if file.stem == split or file.name.startswith(f"{split}-")]
    if not chosen:
        splits = ", ".join(sorted({file.stem.split("-")[0] for file in files})) or "no Parquet file"
        raise FileMissingError(
            f"{path} has no split {split!r}, found {splits}. Name a folder of datasets' save_to_disk, or of Parquet "
            "files named by their split."
        )
    for file in chosen:
        yield from parquet_rows(file, how.columns)


def _is_saved(path: Path) -> bool:
    """Whether ``save_to_disk`` left a folder."""
    return any((path / name).is_file() for name in _DATASET_FILES)


def _saved(path: Path, split: str) -> Iterator[Row]:
    require_extra("train", "datasets")
    from datasets import DatasetDict, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except Exception as error:  # noqa: BLE001 - datasets' errors share no base below Exception
        raise FileCorruptError(
            f"{path} cannot be read as a folder of datasets ({type(error).__name__}: {one_line(error)}). Save it again."
        ) from None
    if isinstance(dataset, DatasetDict):
        if split not in dataset:
            raise FileMissingError(
                f"{path} has no split {split!r}, it has {', '.join(dataset)}. Set split of [[data]]."
            )
        dataset = dataset[split]
    try:
        for row in dataset:
            yield {name: as_json(value) for name, value in row.items()}
    except Exception as error:  # noqa: BLE001 - as above
        raise FileCorruptError(f"{path} cannot be read to its end ({one_line(error)}). Save it again.") from None
