"""Examples from files: read, cleaned of repetitions, some held out and kept out of training."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.files import write_bytes
from encoder_tools.train.recipe import DataSet

_KINDS = (".csv", ".tsv", ".jsonl", ".parquet")


class Example(NamedTuple):
    """One example: a query, a text that answers it, texts that do not; or two sides and how alike they are."""

    query: str
    document: str
    negatives: tuple[str, ...] = ()
    score: float = 0.0


class Examples(NamedTuple):
    """A set that was read.

    :ivar train: to train on, shuffled.
    :ivar held_out: to measure on.
    :ivar facts: how many were read, and how many left out and why.
    """

    train: list[Example]
    held_out: list[Example]
    facts: dict[str, int]


def read_examples(settings: DataSet, root: Path, seed: int) -> Examples:
    """Read one set.

    Rows with an empty side and exact repetitions are left out; so is what shares a text with a held-out example.

    :param root: folder that the file is relative to.
    :raises FileMissingError: if the file is not there.
    :raises FileCorruptError: if it is damaged, or a row is not of its shape.
    :raises InputError: if a column is not there, or nothing to train on is left.
    """
    path = root / settings.file
    rows = [_example(path, number, row, settings) for number, row in enumerate(_rows(path), start=1)]
    whole = [row for row in rows if row.query.strip() and row.document.strip()]
    if whole and not settings.score and all(_same(row.query, row.document) for row in whole):
        raise InputError(f"{path}: query and document are equal in every row. Name two different columns.")
    distinct = list({(folded(row.query), folded(row.document), row.score): row for row in reversed(whole)}.values())
    order = np.random.default_rng(seed).permutation(len(distinct))
    shuffled = [distinct[place] for place in order]
    held_out, rest = shuffled[: settings.held_out], shuffled[settings.held_out :]
    seen = {folded(text) for row in held_out for text in (row.query, row.document)}
    train = [row for row in rest if folded(row.query) not in seen and folded(row.document) not in seen]
    facts = {
        "read": len(rows),
        "empty": len(rows) - len(whole),
        "repeated": len(whole) - len(distinct),
        "held out": len(held_out),
        "kept out, sharing a text with a held-out one": len(rest) - len(train),
    }
    train = train[: settings.limit or len(train)]
    if len(train) < 2:
        raise InputError(f"{path} leaves {len(train)} examples to train on ({facts}), expected two or more. Add rows.")
    return Examples(train, held_out, {**facts, "trained on": len(train)})


def write_examples(path: Path, examples: Sequence[Example]) -> int:
    """Write examples as JSON Lines of query, document, negative_1 and so on; return how many.

    :raises SaveError: if writing fails; what stood there before is untouched.
    """
    rows = [
        {"query": row.query, "document": row.document}
        | {f"negative_{number}": text for number, text in enumerate(row.negatives, start=1)}
        for row in examples
    ]
    write_bytes(path, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return len(rows)


def columns_of(path: Path) -> list[str]:
    """Names of a file's columns, by its first row; errors as :func:`read_examples`."""
    first = next(iter(_rows(path)), None)
    if not first:
        raise FileCorruptError(f"{path} is empty, expected rows with columns.")
    return [str(name) for name in first]


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    name = path.name.removesuffix(".gz")
    kind = next((kind for kind in _KINDS if name.endswith(kind)), None)
    if kind is None:
        raise InputError(f"{path} is of no known kind, expected {', '.join(_KINDS)}. Rename or convert the file.")
    if not path.is_file():
        raise FileMissingError(f"{path} does not exist. Name a file relative to the recipe.")
    if kind == ".parquet":
        yield from _parquet(path)
        return
    text = _text(path)
    if kind == ".jsonl":
        yield from _json_lines(path, text)
        return
    try:
        if kind == ".csv":
            yield from csv.DictReader(io.StringIO(text, newline=""), strict=True)
        else:  # a quotation mark in a TSV is a quotation mark
            yield from csv.DictReader(
                io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True
            )
    except csv.Error as error:
        raise FileCorruptError(f"{path} is no whole {kind[1:].upper()} file ({error}). Repair it.") from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        raise FileCorruptError(f"{path} is not text in UTF-8 ({error}). Convert it.") from None


def _json_lines(path: Path, text: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, RecursionError) as error:
                raise FileCorruptError(f"{path}, line {number}: {error}. Repair the line.") from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        for batch in table.iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise FileCorruptError(f"{path} is no whole Parquet file ({error}). Restore it.") from None


def _example(path: Path, number: int, row: Mapping[str, Any], settings: DataSet) -> Example:
    columns = [settings.query, settings.document, *settings.negatives, *([settings.score] if settings.score else [])]
    for column in columns:
        if column not in row:
            _no_column(path, column, list(row))
    texts = [_text_of(path, number, column, row[column]) for column in columns[: 2 + len(settings.negatives)]]
    score = _score_of(path, number, row[settings.score]) if settings.score else 0.0
    return Example(texts[0], texts[1], tuple(text for text in texts[2:] if text.strip()), score)


def _no_column(path: Path, column: str, found: Sequence[Any]) -> None:
    names = [str(name) for name in found]
    near = difflib.get_close_matches(column, names, n=1, cutoff=0.4)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{path} has no column {column!r}, it has {', '.join(names) or 'none'}.{meant}")


def _text_of(path: Path, number: int, column: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FileCorruptError(f"{path}, row {number}: {column!r} is {str(value)[:40]!r}, expected a text.")
    return value


def _score_of(path: Path, number: int, value: Any) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = float("nan")
    if not np.isfinite(score):
        raise FileCorruptError(f"{path}, row {number}: the score is {str(value)[:40]!r}, expected a finite number.")
    return score


def folded(text: str) -> str:
    """A text without what makes no other text of it: case, and how words are spaced."""
    return " ".join(text.casefold().split())


def _same(left: str, right: str) -> bool:
    return folded(left) == folded(right)
