"""Vectors that bulk embedding made, into collections: as if the texts had been added one by one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from encoder_tools import OnnxEncoder
from encoder_tools.bulk import VectorShards, embed_files
from encoder_tools.errors import FileCorruptError, FileMissingError, FingerprintError
from index import Collection
from index.ingest.vector_rows import ingest_vectors
from service.cli import cli

ROWS = 90


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [{"id": number, "text": f"Text {number} of many", "lang": "en"} for number in range(ROWS)]
    lines.append({"id": 5, "text": "Text five anew"})  # replaces the earlier one
    lines.append({"id": 1000, "text": "x", "lang": {"deep": [1]}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def vectors(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vectors") / "out"
    embed_files([rows], out, processes=1, shard_rows=40)
    return out


def test_a_collection_is_as_one_that_encoded_the_texts(rows: Path, vectors: Path, tmp_path: Path):
    assert CliRunner().invoke(cli, ["index", "build", str(tmp_path / "texts"), str(rows)]).exit_code == 0
    done = CliRunner().invoke(cli, ["index", "build", str(tmp_path / "vectors"), "--from", str(vectors)])
    assert done.exit_code == 0, done.output
    assert f"{ROWS + 1} documents" in done.output
    encoder = OnnxEncoder()
    with (
        Collection.open(tmp_path / "texts", encoder) as one,
        Collection.open(tmp_path / "vectors", encoder) as other,
    ):
        ids = list(one.ids())
        assert sorted(ids) == sorted(other.ids())
        assert one.get(ids) == other.get(ids)
        np.testing.assert_allclose(one.vectors(ids), other.vectors(ids), atol=1e-5)
        assert other.get([5])[0].text == "Text five anew"
        assert other.verify() == ROWS + 1


def test_a_second_run_writes_what_is_not_stored(vectors: Path, tmp_path: Path):
    with Collection.create(tmp_path / "c", OnnxEncoder()) as collection:
        for most in (ROWS + 2, 2):  # the id that comes twice, in two shards, is written by each of them
            parts = list(ingest_vectors(collection, VectorShards(vectors), tmp_path / "c"))
            assert sum(part.stored + part.unchanged for part in parts) == ROWS + 2
            assert sum(part.stored for part in parts) == most
        assert collection.count() == ROWS + 1


def test_another_model_s_vectors_are_rejected(vectors: Path, tmp_path: Path):
    with (
        Collection.create(tmp_path / "c", OnnxEncoder(dim=64)) as collection,
        pytest.raises(FingerprintError, match="width 384"),
    ):
        list(ingest_vectors(collection, VectorShards(vectors), tmp_path / "c"))


def test_rows_that_a_collection_cannot_have_are_rejected_alone(tmp_path: Path):
    lines = [{"id": "a", "text": "A"}, {"id": "b" * 5000, "text": "B"}, {"id": "c", "text": "C"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    embed_files([tmp_path / "rows.jsonl"], tmp_path / "out", processes=1)
    with Collection.create(tmp_path / "c", OnnxEncoder()) as collection:
        parts = list(ingest_vectors(collection, VectorShards(tmp_path / "out"), tmp_path / "c"))
        assert sum(part.rejected for part in parts) == 1
        assert sorted(collection.ids()) == ["a", "c"]
    (line,) = (tmp_path / "c.rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 2


def test_a_damaged_shard_is_told_and_what_was_before_it_is_stored(vectors: Path, tmp_path: Path):
    for path in vectors.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "shard-000001.parquet").write_bytes(b"PAR1")
    done = CliRunner().invoke(cli, ["index", "build", str(tmp_path / "c"), "--from", str(tmp_path)])
    assert isinstance(done.exception, FileCorruptError)
    with Collection.open(tmp_path / "c", OnnxEncoder()) as collection:
        assert collection.count() == 40


def test_files_or_vectors_are_named(tmp_path: Path, vectors: Path, rows: Path):
    for arguments in ([], [str(rows), "--from", str(vectors)]):
        done = CliRunner().invoke(cli, ["index", "build", str(tmp_path / "c"), *arguments])
        assert done.exit_code == 2
        assert "Name FILES, or a folder of vectors" in done.output
    done = CliRunner().invoke(
        cli, ["index", "build", str(tmp_path / "c"), "--from", str(vectors), "--chunk-tokens", "9"]
    )
    assert (done.exit_code, "--chunk-tokens is of FILES" in done.output) == (2, True)
    assert isinstance(
        CliRunner().invoke(cli, ["index", "build", str(tmp_path / "c"), "--from", str(tmp_path / "gone")]).exception,
        FileMissingError,
    )
    assert not (tmp_path / "c").exists()
