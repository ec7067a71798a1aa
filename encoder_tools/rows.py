"""Rows of a file or a folder, each a mapping from column to value, whatever format they are in."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, one_line
from encoder_tools.extras import require_extra
from encoder_tools.files import replacing

_KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
_DATASET_FILES = ("dataset_dict.json", "state.json")  # what datasets' save_to_disk leaves

Row = Mapping[str, Any]
Reject: TypeAlias = Callable[[int, str, Any], None]
"""Is told the number of a row that cannot be read, from 1 on, the reason, and what is there."""


def read_rows(path: Path, split: str = "train", reject: Reject | None = None) -> Iterator[Row]:
    """Rows in their order.

    :param path: CSV, TSV without quoting or JSON Lines, each also gzip-compressed; Parquet; or a folder: one that
        ``datasets`` wrote with ``save_to_disk``, or Parquet files that are named by their split, as on Hugging Face.
    :param split: which of a folder.
    :param reject: is told of damaged lines of JSON and of rows with more or fewer cells than the header, which are then
        left out, their numbers still counting; None raises at the first damaged line and lets such rows be.
    :raises FileMissingError: if there is no such file or split.
    :raises FileCorruptError: if it is damaged.
    :raises InputError: if it is of another kind.
    """
    if path.is_dir():
        yield from _folder(path, split)
        return
    name = path.name.removesuffix(".gz")
    kind = next((kind for kind in _KINDS if name.endswith(kind)), None)
    if kind is None:
        raise InputError(f"{path} is of no known kind, expected {', '.join(_KINDS)}. Rename or convert the file.")
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist. Check the name; in a recipe it is relative to the recipe.")
    if kind == ".parquet":
        yield from _parquet(path)
    elif kind == ".jsonl":
        yield from _json_lines(path, reject)
    else:
        yield from _separated(path, kind, reject)


def is_dataset(path: Path) -> bool:
    """Whether a folder is one that :func:`read_rows` reads, whatever else is in it, such as its card."""
    return _is_saved(path) or next(path.rglob("*.parquet"), None) is not None


def columns_of(path: Path) -> list[str]:
    """Names of the columns, by the first row; errors as :func:`read_rows`, and if there is no row."""
    first = next(iter(read_rows(path)), None)
    if not first:
        raise FileCorruptError(f"{path} is empty, expected rows with columns.")
    return [str(name) for name in first]


def count_rows(path: Path) -> int | None:
    """About how many rows :func:`read_rows` gives, for a bar: lines, or what a Parquet file says; None if unknown."""
    if path.is_dir() or not path.is_file():
        return None
    if path.suffix == ".parquet":
        require_extra("parquet", "pyarrow")
        import pyarrow.parquet

        try:
            return int(pyarrow.parquet.read_metadata(path).num_rows)
        except (pyarrow.ArrowException, OSError, ValueError):
            return None  # whoever reads it says so
    try:
        with _opener(path)(path, "rb") as file:
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


def _separated(path: Path, kind: str, reject: Reject | None) -> Iterator[Row]:
    # a quotation mark in a TSV is a quotation mark
    style: dict[str, Any] = {} if kind == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    reader = csv.DictReader(_lines(path), strict=True, **style)
    number = 0
    while True:
        number += 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reject is None or not reader.fieldnames:
                raise FileCorruptError(f"{path} is no whole {kind[1:].upper()} file ({error}). Repair it.") from None
            reject(number, f"line {reader.line_num}: {error}", None)
            continue
        if reject is not None and (None in row or None in row.values()):
            reject(number, _miscounted(row, reader.fieldnames or ()), {str(name): cell for name, cell in row.items()})
        else:
            yield row


def _miscounted(row: Mapping[Any, Any], names: Sequence[str]) -> str:
    cells = len(names) + len(row[None]) if None in row else sum(cell is not None for cell in row.values())
    return f"found {cells} cells, the header has {len(names)}"


def _json_lines(path: Path, reject: Reject | None) -> Iterator[Row]:
    row_number = 0
    for number, line in enumerate(_lines(path), start=1):
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


def _lines(path: Path) -> Iterator[str]:
    """Lines with their ends, a few in memory at a time."""
    try:
        with _opener(path)(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield from file
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise FileCorruptError(f"{path} is not text in UTF-8 ({error}). Convert it.") from None


def _opener(path: Path) -> Any:
    return gzip.open if path.suffix == ".gz" else open


def _parquet(path: Path) -> Iterator[Row]:
    require_extra("parquet", "pyarrow")
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        for batch in table.iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise FileCorruptError(f"{path} is no whole Parquet file ({error}). Restore it.") from None


def _folder(path: Path, split: str) -> Iterator[Row]:
    if _is_saved(path):
        yield from _saved(path, split)
        return
    files = sorted(path.rglob("*.parquet"))
    chosen = [file for file in files if file.stem == split or file.name.startswith(f"{split}-")]
    if not chosen:
        found = ", ".join(sorted({file.stem.split("-")[0] for file in files})) or "no Parquet file"
        raise FileMissingError(
            f"{path} has no split {split!r}, found {found}. Name a folder of datasets' save_to_disk, or of Parquet "
            "files named by their split."
        )
    for file in chosen:
        yield from _parquet(file)


def _is_saved(path: Path) -> bool:
    """Whether ``save_to_disk`` left a folder."""
    return any((path / name).is_file() for name in _DATASET_FILES)


def _saved(path: Path, split: str) -> Iterator[Row]:
    require_extra("train", "datasets")
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(path))
    except Exception as error:  # noqa: BLE001 - datasets' errors share no base below Exception
        raise FileCorruptError(
            f"{path} cannot be read as a folder of datasets ({type(error).__name__}: {one_line(error)}). Save it again."
        ) from None
    if isinstance(found, DatasetDict):
        if split not in found:
            raise FileMissingError(f"{path} has no split {split!r}, it has {', '.join(found)}. Set split of [[data]].")
        found = found[split]
    try:
        yield from found
    except Exception as error:  # noqa: BLE001 - as above
        raise FileCorruptError(f"{path} cannot be read to its end ({one_line(error)}). Save it again.") from None
