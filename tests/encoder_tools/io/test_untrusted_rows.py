"""Files are read whole or refused: separators, encodings, long cells, names, and what Parquet has that JSON has not."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder_tools.errors import FileCorruptError, InputError
from encoder_tools.io.rejected_rows import RejectedRows
from encoder_tools.io.rows import Reading, columns_of, read_rows

CASES = Path(__file__).parents[4] / "shared" / "cases"


def rows(path: Path, **reading: Any) -> tuple[list[Any], list[int]]:
    """What is read, and the numbers of what is rejected."""
    rejected: list[int] = []
    found = list(read_rows(path, reject=lambda number, *_: rejected.append(number), reading=Reading(**reading)))
    return found, rejected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("id;text;price\n1;Where?;3,50\n2;The weather, they say, is fine;4,20\n", {"price": "4,20"}),
        ("sep=;\nid;text\n1;a\n", {"text": "a"}),
        ("sep=\t\nid\ttext\n1\ta\n", {"text": "a"}),
        ("id\ttext\n1\ta, b\n", {"text": "a, b"}),
        ("id|text\n1|a, b\n", {"text": "a, b"}),
        ("id,text\n1,a; b; c\n", {"text": "a; b; c"}),
        ('id,text\n1,"a; b\nc"\n', {"text": "a; b\nc"}),
        ('"id";"text"\n1;"a; b"\n', {"text": "a; b"}),
        ("text\nonly; one, column\n", {"text": "only; one, column"}),
        ("text\n", None),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_separators_and_encodings_are_told(tmp_path: Path, content: str, expected: Any, encoding: str):
    path = tmp_path / "x.CSV"
    path.write_bytes(content.encode(encoding))
    if content.startswith("text\nonly"):
        assert rows(path) == ([], [1]) or rows(path)[0] == [expected]
        return
    found, rejected = rows(path)
    assert rejected == []
    assert (found[-1] | (expected or {}) == found[-1]) if found else expected is None


def test_another_encoding_is_refused_with_the_option_that_reads_it(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_bytes("id,text\n1,café – “quoted”\n".encode("cp1252"))
    with pytest.raises(FileCorruptError, match="--encoding cp1252"):
        rows(path)
    assert rows(path, encoding="cp1252")[0] == [{"id": "1", "text": "café – “quoted”"}]
    with pytest.raises(InputError, match="Encoding 'klingon' is not known"):
        rows(path, encoding="klingon")


def test_two_columns_of_one_name_are_refused(tmp_path: Path):
    (tmp_path / "x.csv").write_text("id,text,text\n1,a,b\n")
    with pytest.raises(InputError, match="two columns named 'text'"):
        rows(tmp_path / "x.csv")


@pytest.mark.parametrize("length", [100, 200_000, 2_000_000])
def test_long_cells_are_read(tmp_path: Path, length: int):
    cell = "".join(f"Line {n}, and so on\n" for n in range(length // 20))
    (tmp_path / "x.csv").write_text(f'text,label\na,1\n"{cell}",2\nb,3\n')
    found, rejected = rows(tmp_path / "x.csv")
    assert [row["label"] for row in found] == ["1", "2", "3"]
    assert found[1]["text"] == cell
    assert rejected == []


@pytest.mark.parametrize("kind", ["open to the end", "longer than a cell may be", "damaged inside"])
def test_reading_never_goes_on_in_the_middle_of_a_cell(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    import csv

    prose = "".join(f"Line {n}, of prose\n" for n in range(3000))
    bad = {
        "open to the end": f'"{prose}',
        "longer than a cell may be": f'"{prose}",x\n',
        "damaged inside": f'"{prose}"x,"y',
    }
    (tmp_path / "x.csv").write_text(f"text,label\na,1\n{bad[kind]}")
    limit = csv.field_size_limit()
    if kind.startswith("longer"):
        monkeypatch.setattr("encoder_tools.io.csv_rows.LONGEST_CELL", 1000)
        csv.field_size_limit(1000)
    found: list[Any] = []
    try:
        with pytest.raises(FileCorruptError, match="row that begins on line 3"):
            found.extend(read_rows(tmp_path / "x.csv", reject=lambda *_: None))
    finally:
        csv.field_size_limit(limit)
    assert found == [{"text": "a", "label": "1"}]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
                         min_size=3, max_size=3), min_size=1, max_size=12),
       st.sampled_from(",;\t|"))  # fmt: skip
def test_what_a_csv_module_writes_is_read_as_it_was(tmp_path_factory: Any, cells: list[list[str]], delimiter: str):
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["id", "text", "label"], *cells])
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(text.getvalue().encode())
    found, rejected = rows(path)
    assert rejected == []
    assert [list(row.values()) for row in found] == cells


def test_other_endings(tmp_path: Path):
    (tmp_path / "a.NDJSON").write_text('{"a": 1}\n')
    (tmp_path / "a.json").write_text('\ufeff [{"a": 1}, 5, {"a": 2}]', encoding="utf-8")
    (tmp_path / "b.json").write_text('{"a": 1}\n{"a": 2}\n')
    assert rows(tmp_path / "a.NDJSON")[0] == [{"a": 1}]
    assert rows(tmp_path / "a.json") == ([{"a": 1}, {"a": 2}], [2])
    assert rows(tmp_path / "b.json")[0] == [{"a": 1}, {"a": 2}]
    (tmp_path / "c.json").write_text('[{"a": 1}')
    with pytest.raises(FileCorruptError, match="no whole JSON array"):
        rows(tmp_path / "c.json")
    (tmp_path / "e.json").write_text('{\n  "a": 1\n}\n')
    with pytest.raises(FileCorruptError, match="neither a JSON array nor lines"):
        rows(tmp_path / "e.json")
    (tmp_path / "d.jsonl").write_text('{"a": 1}\n{"a": 1, "b": 2}\n')
    assert columns_of(tmp_path / "d.jsonl") == ["a", "b"]


def test_parquet_has_more_kinds_than_json(tmp_path: Path):
    day, at = datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    table = pyarrow.table(
        {
            "day": [day, None],
            "at": [at, at],
            "time": [datetime.time(1, 2), None],
            "span": [datetime.timedelta(minutes=1.5), None],
            "price": pyarrow.array([decimal.Decimal("3.50"), None], pyarrow.decimal128(10, 2)),
            "exact": pyarrow.array([decimal.Decimal("0.12345678901234567890"), None], pyarrow.decimal128(30, 20)),
            "score": [float("nan"), 1.5],
            "nested": [{"d": day, "l": [float("nan"), 2.0]}, None],
            "kind": pyarrow.array(["a", "b"]).dictionary_encode(),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "x.PARQUET")
    first, second = rows(tmp_path / "x.PARQUET")[0]
    assert first == {
        "day": "2024-01-02",
        "at": "2024-01-02T03:04:05+00:00",
        "time": "01:02:00",
        "span": 90.0,
        "price": 3.5,
        "exact": "0.12345678901234567890",
        "score": None,
        "nested": {"d": "2024-01-02", "l": [None, 2.0]},
        "kind": "a",
    }
    assert second["score"] == 1.5
    json.dumps([first, second], allow_nan=False)


def test_bytes_are_refused_by_the_name_of_their_column(tmp_path: Path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "picture": [b"\xff"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="column 'picture' holds bytes"):
        rows(tmp_path / "x.parquet")
    assert rows(tmp_path / "x.parquet", columns={"text", "id"})[0] == [{"text": "a"}]


def test_rejected_rows_can_be_read_and_are_told_once(tmp_path: Path):
    for _ in range(3):
        rejected = RejectedRows(tmp_path / "out", tmp_path / "in.jsonl")
        rejected(1, "half", {"a": "x\ud800y", "b": float("nan"), "c": [float("inf")], "d": {1: b"z"}, "e": None})
    (line,) = read_rows(tmp_path / "out.rejected.jsonl")
    assert line["data"] == {"a": "x\\ud800y", "b": None, "c": [None], "d": {"1": "b'z'"}, "e": None}


@pytest.mark.shared
@pytest.mark.parametrize("name", ["UP.CSV", "a.ndjson", "semi.csv", "sep.csv", "overlong_cell.csv", "date.parquet",
                                  "overlong_cell_valid.csv", "nanfloat.parquet"])  # fmt: skip
def test_the_cases_of_strangers(name: str):
    if not CASES.exists():
        pytest.skip("no shared data")
    found, rejected = rows(CASES / name)
    assert rejected == []
    assert {"text"} <= found[0].keys()
    if name == "overlong_cell.csv":
        assert {row["label"] for row in found} == {"card", "rain"}
