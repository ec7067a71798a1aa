"""Bulk embedding: the same bytes however it is run, interrupted, damaged or resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from encoder_tools import OnnxEncoder
from encoder_tools.bulk import VectorShards, embed_files
from encoder_tools.errors import FileCorruptError, FileMissingError, InferenceError, InputError
from service.cli import cli
from tests.waiting import until

ROWS, SHARD = 150, 32


def write_rows(path: Path, count: int = ROWS, change: int | None = None) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = (
                f"Document {number} " + "speaks of many things " * (number % 7) + ("anew" if number == change else "")
            )
            file.write(json.dumps({"id": number, "text": text, "lang": "en" if number % 2 else "de"}) + "\n")
            if number == 40:
                file.write('{"id": 40, "text": ""}\n')
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="module")
def expected(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected") / "out"
    done = embed_files([rows], out, processes=1, shard_rows=SHARD)
    assert (done.rows, done.rejected, done.shards, done.skipped) == (ROWS, 1, 5, 0)
    return files_of(out)


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_vectors_are_those_of_the_encoder(rows: Path, tmp_path: Path):
    embed_files([rows], tmp_path / "out", processes=1, shard_rows=SHARD)
    shards = VectorShards(tmp_path / "out")
    assert len(shards) == len(list(shards)) == 5
    for shard in shards:
        assert shard.vectors.dtype == np.float32
        np.testing.assert_allclose(shard.vectors, OnnxEncoder().encode_document(shard.texts), atol=1e-5)
    assert [name for shard in shards for name in shard.ids] == list(range(ROWS))
    assert [one for shard in shards for one in shard.metadata][:2] == [{"lang": "de"}, {"lang": "en"}]


def test_others_read_the_shards(rows: Path, tmp_path: Path):
    dataset = pytest.importorskip("pyarrow.dataset")
    embed_files([rows], tmp_path / "out", processes=1, shard_rows=SHARD)
    table = dataset.dataset(sorted((tmp_path / "out").glob("*.parquet"))).to_table()
    assert table.num_rows == ROWS
    assert str(table.schema.field("vector").type).startswith("fixed_size_list<element: float")
    assert table.schema.field("vector").type.list_size == 384


def test_processes_give_the_same_bytes(rows: Path, tmp_path: Path, expected: dict[str, bytes]):
    embed_files([rows], tmp_path / "out", processes=2, shard_rows=SHARD)
    assert files_of(tmp_path / "out") == expected


def test_a_finished_run_is_not_done_again(rows: Path, tmp_path: Path, expected: dict[str, bytes]):
    for skipped in (0, 5):
        done = embed_files([rows], tmp_path / "out", processes=1, shard_rows=SHARD)
        assert (done.rows, done.rejected, done.skipped) == (ROWS, 1, skipped)
    assert files_of(tmp_path / "out") == expected


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "shortened": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "lengthened": lambda path: path.write_bytes(path.read_bytes() + b"\n "),
    "emptied": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "flipped": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["shard-000001.parquet", "shard-000001.json"])
def test_a_damaged_shard_is_told_and_made_again(
    rows: Path, tmp_path: Path, expected: dict[str, bytes], name: str, damage: str
):
    out = tmp_path / "out"
    out.mkdir()
    for other, content in expected.items():
        (out / other).write_bytes(content)
    DAMAGES[damage](out / name)
    if (name, damage) != ("shard-000001.json", "lengthened"):  # which is the same JSON
        with pytest.raises((FileCorruptError, FileMissingError), match="shard-000001"):
            list(VectorShards(out))
        assert embed_files([rows], out, processes=1, shard_rows=SHARD).skipped == 4
        assert files_of(out) == expected


def test_a_changed_row_changes_its_shard_alone(rows: Path, tmp_path: Path, expected: dict[str, bytes]):
    changed = write_rows(tmp_path / "rows.jsonl", change=70)
    out = tmp_path / "out"
    embed_files([changed], out, processes=1, shard_rows=SHARD)
    names = {name for name, content in files_of(out).items() if content != expected[name]}
    assert names == {"shard-000002.parquet", "shard-000002.json"}
    done = embed_files([write_rows(changed, change=100)], out, processes=1, shard_rows=SHARD)
    assert done.skipped == 3


def test_fewer_rows_leave_no_shards_behind(tmp_path: Path):
    out = tmp_path / "out"
    embed_files([write_rows(tmp_path / "rows.jsonl")], out, processes=1, shard_rows=SHARD)
    embed_files([write_rows(tmp_path / "rows.jsonl", 35)], out, processes=1, shard_rows=SHARD)
    assert sorted(files_of(out)) == [
        *("shard-000000.json", "shard-000000.parquet", "shard-000001.json", "shard-000001.parquet", "vectors.json")
    ]
    assert [len(shard.ids) for shard in VectorShards(out)] == [32, 3]


def test_another_run_does_not_go_on_with_it(rows: Path, tmp_path: Path, expected: dict[str, bytes]):
    out = tmp_path / "out"
    embed_files([rows], out, processes=1, shard_rows=SHARD)
    with pytest.raises(InputError, match="begun with shard_rows 32"):
        embed_files([rows], out, processes=1, shard_rows=64)
    with pytest.raises(InputError, match="begun with model"):
        embed_files([rows], out, processes=1, shard_rows=SHARD, variant="qint8")
    assert files_of(out) == expected
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.doc").write_text("a")
    with pytest.raises(InputError, match="holds other files"):
        embed_files([rows], tmp_path / "mine", processes=1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.doc"]


def test_what_is_no_folder_of_vectors_is_named(tmp_path: Path):
    with pytest.raises(FileMissingError, match="is no folder of vectors"):
        VectorShards(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    with pytest.raises(FileMissingError, match=r"has no vectors\.json"):
        VectorShards(tmp_path)
    (tmp_path / "vectors.json").write_text('{"format": "another", "format_version": 1}')
    with pytest.raises(FileCorruptError, match=r"vectors\.json"):
        VectorShards(tmp_path)


def test_an_empty_input_is_told(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text("\n")
    with pytest.raises(InputError, match="There is no row"):
        embed_files([tmp_path / "rows.jsonl"], tmp_path / "out", processes=1)


def test_rejected_rows_alone_make_a_shard_without_vectors(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"text": ""}\n{"text": "a"}\n')
    assert embed_files([tmp_path / "rows.jsonl"], tmp_path / "out", processes=1, shard_rows=1).rows == 1
    assert [shard.vectors.shape for shard in VectorShards(tmp_path / "out")] == [(0, 384), (1, 384)]


def test_object_stores_hold_the_same_bytes(rows: Path, tmp_path: Path, expected: dict[str, bytes]):
    pytest.importorskip("fsspec")
    address = f"file://{tmp_path}/out"  # by fsspec, as any other
    for skipped in (0, 5):
        done = embed_files([f"file://{rows}"], address, processes=2, shard_rows=SHARD)
        assert (done.out, done.skipped) == (address, skipped)
    assert files_of(tmp_path / "out") == expected
    assert len(list(VectorShards(address))) == 5
    (tmp_path / "out/shard-000003.parquet").write_bytes(b"PAR1")
    assert embed_files([f"file://{rows}"], address, processes=1, shard_rows=SHARD).skipped == 4


def started(rows: Path, out: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    script = "from service.cli import main; import sys; main(sys.argv[1:])"
    arguments = ["embed", str(rows), str(out), "--processes", "2", "--shard-rows", "16"]
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, stderr=subprocess.PIPE)


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.parametrize("victim", ["worker", "all"])
def test_a_kill_in_the_middle_loses_and_doubles_nothing(tmp_path: Path, victim: str):
    rows, out = write_rows(tmp_path / "rows.jsonl", 3000), tmp_path / "out"
    process = started(rows, out)
    until(lambda: len(list(out.glob("shard-*.json"))) > 3)
    workers = workers_of(process)
    assert len(workers) == 2
    if victim == "worker":
        workers[0].send_signal(signal.SIGKILL)
    else:
        process.kill()
    _, errors = process.communicate(timeout=300)
    until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))
    if victim == "all":
        with pytest.raises(InputError, match="unfinished"):
            VectorShards(out)
        process = started(rows, out)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 3, errors  # one row was rejected
    embed_files([rows], tmp_path / "again", processes=1, shard_rows=16)
    assert files_of(out) == files_of(tmp_path / "again")


def test_processes_that_die_again_and_again_are_told(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encoder_tools.bulk.local_runner.embed_shard", _die)
    with pytest.raises(InferenceError, match="ended 3 times"):
        embed_files([rows], tmp_path / "out", processes=2, shard_rows=SHARD)


def _die(*_: object) -> None:
    os._exit(1)


def test_an_error_in_a_process_is_the_caller_s(rows: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "shard-000002.parquet").mkdir()
    with pytest.raises(OSError, match=r"shard-000002\.parquet"):
        embed_files([rows], out, processes=2, shard_rows=SHARD)


def test_the_command(rows: Path, tmp_path: Path):
    out = tmp_path / "out"
    arguments = ["embed", str(rows), str(out), "--processes", "1", "--shard-rows", "100", "--keep", "lang"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert f"{ROWS} vectors in 2 shards, 1 rows rejected" in done.output
