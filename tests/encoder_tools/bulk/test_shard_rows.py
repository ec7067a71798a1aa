"""Rows of the inputs, cut into shards: by their order alone, and none is lost."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encoder_tools.bulk.embed_job import EmbedJob, ModelMark
from encoder_tools.bulk.shard_rows import shards_of
from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, UnavailableError
from encoder_tools.io.columns import DocumentColumns

MODEL = ModelMark("m", "f", "s", 4)
GOOD = st.builds(
    lambda text, extra: json.dumps({"text": text, **extra}),
    st.text(min_size=1).filter(lambda text: bool(text.strip())),
    st.dictionaries(st.sampled_from(["lang", "n"]), st.none() | st.integers(-9, 9) | st.text(max_size=3)),
)
BAD = st.sampled_from(
    ['{"text": ', "[]", '{"text": ""}', '{"text": 3}', '{"txt": "a"}', '{"text": "a", "id": true}',
     '{"text": "\\ud800"}', '{"text": "a", "id": 1.5}', '"a"', '{"text": "a", "id": []}'],
)  # fmt: skip


def job(*inputs: Path | str, rows: int = 3, **columns: Any) -> EmbedJob:
    return EmbedJob(tuple(map(str, inputs)), "out", "", MODEL, columns=DocumentColumns(**columns), shard_rows=rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(files=st.lists(st.lists(GOOD | BAD, max_size=9), min_size=1, max_size=3), rows=st.integers(1, 7))
def test_every_row_is_in_the_shard_of_its_number(files: list[list[str]], rows: int, tmp_path: Path):
    for number, lines in enumerate(files):
        (tmp_path / f"{number}.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    inputs = [tmp_path / f"{number}.jsonl" for number in range(len(files))]
    total = sum(map(len, files))
    shards = list(shards_of(job(*inputs, rows=rows)))
    assert [shard.number for shard in shards] == list(range(-(-total // rows)))
    counts = [len(shard.rows.ids) + len(shard.rows.rejected) for shard in shards]
    assert sum(counts) == total
    assert all(count == rows for count in counts[:-1])
    assert shards == list(shards_of(job(*inputs, rows=rows)))
    one = [shard.rows for shard in shards_of(job(*inputs, rows=10**6))]
    together = [text for shard in shards for text in shard.rows.texts]
    assert together == [text for part in one for text in part.texts]
    good = [json.loads(line)["text"] for lines in files for line in lines if not _is_bad(line)]
    assert together == good


def _is_bad(line: str) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return True
    text = row.get("text") if isinstance(row, dict) else None
    return not isinstance(text, str) or not text.strip() or "\ud800" in text or "id" in row


def test_ids_are_all_of_the_kind_of_the_first(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [{"id": 1}, {"id": "1"}, {}, {"id": 2**63}, {"id": -(2**63)}, {"id": None}]
    file.write_text("".join(json.dumps({"text": "a", **row}) + "\n" for row in rows))
    (shard,) = shards_of(job(file, rows=100))
    assert shard.rows.ids == [1, -(2**63)]
    reasons = [json.loads(line)["reason"] for line in shard.rows.rejected]
    assert ["a column has one type" in reason for reason in reasons] == [True, True, False, True]


def test_formats_give_the_same_rows(tmp_path: Path):
    rows = [{"id": f"d{number}", "text": f"text {number}", "lang": "en"} for number in range(10)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    with (tmp_path / "c.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    made = {name: list(shards_of(job(tmp_path / name))) for name in ("a.jsonl", "b.jsonl.gz", "c.csv", "d.parquet")}
    assert made["a.jsonl"] == made["b.jsonl.gz"] == made["c.csv"] == made["d.parquet"]


def test_rows_without_an_id_are_called_by_their_file(tmp_path: Path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_text('{"text": "a"}\n')
    first, second = tmp_path / "x/rows.jsonl", tmp_path / "y/rows.jsonl"
    assert next(shards_of(job(first))).rows.ids == ["rows.jsonl:1"]
    names = next(shards_of(job(first, second))).rows.ids
    assert names == [f"{first}:1", f"{second}:1"]  # else the second would replace the first in a collection


def test_kept_columns_are_the_metadata(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"t": "a", "k": "x", "lang": "en", "n": null}\n')
    (shard,) = shards_of(job(tmp_path / "rows.jsonl", text="t", identifier="k", metadata=("lang", "n")))
    assert shard.rows.metadata == ['{"lang": "en"}']
    assert shard.rows.ids == ["x"]


def test_what_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(FileMissingError, match=r"gone\.jsonl does not exist"):
        list(shards_of(job(tmp_path / "gone.jsonl")))
    (tmp_path / "notes.txt").write_text("a")
    with pytest.raises(InputError, match="no known kind"):
        list(shards_of(job(tmp_path / "notes.txt")))
    with pytest.raises(InputError, match="no file system"):
        list(shards_of(job("nosuch://bucket/rows.jsonl")))
    with pytest.raises(InputError, match="There is no file"):
        list(shards_of(job("memory://nothing/*.jsonl")))
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(InputError, match="named twice"):
        list(shards_of(job(tmp_path / "a.jsonl", tmp_path / "a.jsonl")))
    with pytest.raises(UnavailableError, match="cannot be reached"):
        list(shards_of(job("ftp://127.0.0.1:1/a.jsonl")))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(FileCorruptError, match=r"cut\.parquet"):
        list(shards_of(job(tmp_path / "cut.parquet")))


def test_object_stores_give_the_same_rows(tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    lines = [f'{{"id": {number}, "text": "text {number}"}}\n' for number in range(6)]
    for number, part in enumerate((lines[:4], lines[4:])):
        (tmp_path / f"part-{number}.jsonl").write_text("".join(part))
        with fsspec.open(f"memory://bucket/part-{number}.jsonl", "w") as file:
            file.write("".join(part))
    here = list(shards_of(job(tmp_path / "part-0.jsonl", tmp_path / "part-1.jsonl")))
    assert list(shards_of(job("memory://bucket/part-*.jsonl"))) == here
