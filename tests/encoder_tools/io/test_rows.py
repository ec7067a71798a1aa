"""Rows of every kind of file, read a few at a time, and every damage with its one line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.io.parquet_writer import write_parquet
from encoder_tools.io.rows import columns_of, read_rows, write_rows

ROWS: list[dict[str, Any]] = [{"a": 'said "yes"', "b": "é\u2028x"}, {"a": "two", "b": "z, w"}]


def made(folder: Path, kind: str) -> Path:
    """The rows as a file or a folder."""
    path = folder / kind
    table = pyarrow.Table.from_pylist(ROWS)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    quoted = "a,b\n" + "".join('"{}","{}"\n'.format(row["a"].replace('"', '""'), row["b"]) for row in ROWS)
    if kind.endswith(".gz"):
        path.write_bytes(gzip.compress((quoted if ".csv" in kind else lines).encode()))
    elif kind == "x.parquet":
        pyarrow.parquet.write_table(table, path)
    elif kind == "saved":
        Dataset.from_list(ROWS).save_to_disk(str(path))
    elif kind == "splits":
        DatasetDict({"train": Dataset.from_list(ROWS), "dev": Dataset.from_list(ROWS[:1])}).save_to_disk(str(path))
    elif kind == "hub":
        (path / "data").mkdir(parents=True)
        for part in (0, 1):
            name = path / "data" / f"train-0000{part}-of-00002.parquet"
            pyarrow.parquet.write_table(table.slice(part, 1), name)
    else:
        text = {
            "x.csv": "\ufeff" + quoted,
            "x.tsv": "a\tb\n" + "".join(f"{r['a']}\t{r['b']}\n" for r in ROWS),
            "x.jsonl": lines,
        }
        path.write_text(text[kind], encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "kind", ["x.csv", "x.csv.gz", "x.tsv", "x.jsonl", "x.jsonl.gz", "x.parquet", "saved", "splits", "hub"]
)
def test_every_kind_gives_the_same_rows(tmp_path: Path, kind: str):
    path = made(tmp_path, kind)
    assert [dict(row) for row in read_rows(path)] == ROWS
    assert columns_of(path) == ["a", "b"]


def test_a_large_file_is_not_read_whole(tmp_path: Path):
    """What is damaged behind the first rows is found when it is reached."""
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n' * 50_000 + "{")
    rows = read_rows(tmp_path / "x.jsonl")
    assert next(rows) == {"a": 1}
    with pytest.raises(FileCorruptError, match="line 50001"):
        list(rows)


@pytest.mark.parametrize(
    ("name", "content", "bad"),
    [
        ("x.jsonl", b'{"a": "1"}\n{"a"\n\n[2]\n{"a": "3"}\n', {2: "line 2", 3: "line 4"}),
        ("x.csv", b'a,b\n1,2\n1\n1,2,3\n"x"y,2\n3,4\n', {2: "1 cells", 3: "3 cells", 4: "expected"}),
        ("x.tsv", b"a\tb\n1\t2\n9\n3\t4\n", {2: "found 1 cells, the header has 2"}),
    ],
)
def test_damaged_rows_are_told_and_left_out(tmp_path: Path, name: str, content: bytes, bad: dict[int, str]):
    (tmp_path / name).write_bytes(content)
    told: dict[int, str] = {}
    rows = list(read_rows(tmp_path / name, reject=lambda number, reason, _: told.update({number: reason})))
    assert [row["a"] for row in rows] == ["1", "3"]
    assert told.keys() == bad.keys()
    for number, reason in bad.items():
        assert reason in told[number]


def test_written_rows_are_read_again(tmp_path: Path):
    write_rows(tmp_path / "x.jsonl", iter(ROWS))
    assert list(read_rows(tmp_path / "x.jsonl")) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("x.txt", b"a", InputError, "no known kind"),
        ("x.csv", b'a,b\n"open', FileCorruptError, "no whole CSV file"),
        ("x.csv", b"a,b\n\xff\n", FileCorruptError, "not text in UTF-8"),
        ("x.csv.gz", b"no gzip", FileCorruptError, "cannot be read"),
        ("x.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 9999, mtime=0)[:-20], FileCorruptError, "cannot be read"),
        ("x.jsonl", b'{"a": 1}\n[1]\n', FileCorruptError, "line 2"),
        ("x.parquet", b"PAR1", FileCorruptError, "no whole Parquet file"),
        ("nowhere/y.csv", None, FileMissingError, "does not exist"),
    ],
)
def test_damage_is_one_clear_error(tmp_path: Path, name: str, content: Any, error: type[Exception], says: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=says):
        list(read_rows(tmp_path / name))


def test_splits_that_are_not_there_and_damaged_folders_are_named(tmp_path: Path):
    with pytest.raises(FileMissingError, match="it has train, dev"):
        list(read_rows(made(tmp_path, "splits"), "test"))
    with pytest.raises(FileMissingError, match="found train"):
        list(read_rows(made(tmp_path, "hub"), "test"))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}")
    with pytest.raises(FileCorruptError, match="folder of datasets"):
        list(read_rows(tmp_path / "saved"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(FileCorruptError, match="is empty"):
        columns_of(tmp_path / "empty.jsonl")


MIXED = [
    {"id": 1, "text": "one", "n": 1, "share": 1, "tags": ["a", "b"], "any": 1, "deep": {"x": [1]}, "flag": True},
    {"id": "1", "text": "two", "n": -(2**63), "share": 0.5, "tags": ["c"], "any": "1", "huge": 2**70, "none": None},
    {"id": "x", "text": "thrée 😀", "n": None, "empty": []},
]


def test_rows_of_any_kind_as_parquet(tmp_path: Path):
    assert write_parquet(tmp_path / "x.parquet", lambda: MIXED) == 3
    rows = list(read_rows(tmp_path / "x.parquet"))
    assert [row["text"] for row in rows] == [row["text"] for row in MIXED]
    assert [row["id"] for row in rows] == ["1", '"1"', '"x"']  # of two types: as JSON, so that 1 and "1" stay apart
    write_parquet(tmp_path / "y.parquet", lambda: MIXED, as_text=("id", "n", "share"))
    again = list(read_rows(tmp_path / "y.parquet"))
    assert [(row["id"], row["n"], row["share"]) for row in again] == [
        ("1", 1, 1.0),
        ("1", -(2**63), 0.5),
        ("x", None, None),
    ]
    assert [row["n"] for row in rows] == [1, -(2**63), None]
    assert [row["share"] for row in rows] == [1.0, 0.5, None]
    assert [row["tags"] for row in rows] == [["a", "b"], ["c"], None]
    assert [row["any"] for row in rows] == ["1", '"1"', None]
    assert (rows[0]["deep"], rows[1]["huge"], rows[2]["empty"], rows[1]["none"]) == (
        '{"x": [1]}',
        str(2**70),
        "[]",
        None,
    )
    assert rows[0]["flag"] is True


def test_a_parquet_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    write_parquet(tmp_path / "x.parquet", lambda: MIXED)
    before = (tmp_path / "x.parquet").read_bytes()

    def broken() -> Any:
        yield MIXED[0]
        raise FileMissingError("gone")

    for read, error in ((lambda: [], InputError), (broken, FileMissingError)):
        with pytest.raises(error):
            write_parquet(tmp_path / "x.parquet", read)
    with pytest.raises(FileMissingError):
        write_rows(tmp_path / "x.parquet", broken())
    assert (tmp_path / "x.parquet").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]
