"""``extract`` and ``export`` through the real command line, and what they say of what they cannot take."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from serving import COMMAND
from tiny import make_checkpoint

from service.cli import main

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("t5gemma2", tmp_path_factory.mktemp("tiny") / "checkpoint")


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extracted and exported by two processes, as a user does it."""
    out = tmp_path_factory.mktemp("made") / "model"
    extracted = run("extract", checkpoint, out, "--pooling", "mean", "--dense", "24")
    assert extracted.returncode == 0, extracted.stderr
    assert f"wrote    {out}" in extracted.stdout
    assert "largest difference of hidden states 0 " in extracted.stdout
    exported = run("export", out, "--quantize", "qint8")
    assert exported.returncode == 0, exported.stderr
    assert "model_qint8.onnx" in exported.stdout
    return out


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | variables,
    )


def failed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command in this process (starting torch takes seconds); it must end with 1 and one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "unforeseen" not in said
    return said


def test_the_road_runs_through_the_command_line(model: Path):
    told = run("info", model)
    assert told.returncode == 0
    assert "dimensions   24" in told.stdout
    assert "fp32 arithmetic, weights stored as fp32" in told.stdout
    assert "model_qint8.onnx: weights and activations quantized to int8" in told.stdout
    assert "-qint8" in told.stdout


def test_a_folder_that_exists_needs_overwrite_and_is_then_replaced(model: Path, checkpoint: Path, tmp_path: Path):
    out = Path(shutil.copytree(model, tmp_path / "out"))
    refused = run("extract", checkpoint, out)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "--overwrite" in refused.stderr
    assert run("extract", checkpoint, out, "--overwrite").returncode == 0
    assert not (out / "onnx").exists()


def set_json(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def cut(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 5000)


def more_pieces(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"] += [[f"▁piece{number}", -20.0] for number in range(100)]
    path.write_text(json.dumps(tokenizer))


def pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def no_pad(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("pad_token")
    path.write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_json("config.json", model_type="nonsense"), "transformers cannot read"),
        (set_json("config.json", model_type=None), "transformers cannot read"),
        (cut, "is not a whole safetensors file"),
        (set_json("2_Dense/config.json", module_input_name=""), "sentence-transformers cannot encode a text with"),
        (more_pieces, "the word table has 320 rows"),
        (pipe, "expected a regular file"),
        (set_json("sentence_bert_config.json", do_lower_case=True), "do_lower_case"),
    ],
    ids=["unknown type", "no type", "truncated", "senseless module", "foreign tokenizer", "named pipe", "setting"],
)
def test_export_says_in_one_line_what_it_cannot_take(
    model: Path, tmp_path: Path, change: Change, says: str, capsys: pytest.CaptureFixture[str]
):
    damaged = Path(shutil.copytree(model, tmp_path / "model"))
    before = {file.name: file.read_bytes() for file in (damaged / "onnx").iterdir()}
    change(damaged)
    assert says in failed(capsys, "export", damaged)
    assert {file.name: file.read_bytes() for file in (damaged / "onnx").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_json("tokenizer_config.json", model_max_length="big"), "model_max_length is 'big'"),
        (set_json("tokenizer_config.json", model_max_length=0), "model_max_length is '0'"),
        (pipe, "expected a regular file"),
        (no_pad, "has no padding token"),
    ],
    ids=["length", "no length", "named pipe", "no padding token"],
)
def test_extract_says_in_one_line_what_it_cannot_take(
    checkpoint: Path, tmp_path: Path, change: Change, says: str, capsys: pytest.CaptureFixture[str]
):
    damaged = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    change(damaged)
    assert says in failed(capsys, "extract", damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-length", 10**30], "takes at most 256 tokens"),
        (["--max-length", 257], "takes at most 256 tokens"),
        (["--max-length", 1], "leaves no room for text"),
        (["--revision", "main", "--key-layout", "gemma3", "--keep-vision"], "--keep-vision"),
    ],
)
def test_extract_refuses_impossible_options(
    checkpoint: Path, tmp_path: Path, options: list[object], says: str, capsys: pytest.CaptureFixture[str]
):
    assert says in failed(capsys, "extract", checkpoint, tmp_path / "out", *options)


def test_a_hub_id_is_taken_at_the_revision_that_was_asked_for(tmp_path: Path):
    """Two revisions in the hub's own cache, as it lies on disk after a download; this machine has no hub."""
    repository = tmp_path / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    for seed, name in enumerate(("main", "v2")):
        commit = str(seed) * 40
        (repository / "refs" / name).write_text(commit)
        make_checkpoint("t5", repository / "snapshots" / commit, seed=seed)
    offline = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for options, commit in (([], "0" * 40), (["--revision", "v2"], "1" * 40)):
        done = run("extract", "org/tiny", tmp_path / commit, *options, **offline)
        assert done.returncode == 0, done.stderr
        report = json.loads((tmp_path / commit / "extraction.json").read_text())
        assert (report["source"], report["revision"]) == ("org/tiny", "v2" if options else None)
        assert report["copied"]
        (made,) = (load_file(path / "model.safetensors") for path in [tmp_path / commit])
        source = load_file(repository / "snapshots" / commit / "model.safetensors")
        assert torch.equal(made["shared.weight"], source["shared.weight"])
    unknown = run("extract", "org/tiny", tmp_path / "c", "--revision", "v3", **offline)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "the revision" in unknown.stderr


def test_an_impossible_width_is_wrong_usage(checkpoint: Path, tmp_path: Path):
    done = run("extract", checkpoint, tmp_path / "out", "--dense", 100_000_000_000)
    assert done.returncode == 2
    assert "65536" in done.stderr


def test_what_nobody_foresaw_is_one_line_too_and_a_traceback_with_debug(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def surprise(*_: object) -> None:
        raise LookupError("two\nlines")

    monkeypatch.setattr("encoder_tools.model.model_folder.ModelFolder.open", surprise)
    with pytest.raises(SystemExit) as ended:
        main(["info", str(model)])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: unforeseen LookupError: two lines. Run the command again with --debug")
    assert said.count("\n") == 1
    with pytest.raises(LookupError):
        main(["info", str(model), "--debug"])


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda graph: graph.update(sha256=None), "sha256"),
        (lambda graph: graph.update(file=5), "file"),
        (lambda graph: graph.update(sha256={}), "no SHA-256"),
    ],
)
def test_info_vouches_for_no_manifest_that_does_not(
    model: Path, tmp_path: Path, edit: Any, says: str, capsys: pytest.CaptureFixture[str]
):
    damaged = Path(shutil.copytree(model, tmp_path / "model"))
    manifest = json.loads((damaged / "onnx" / "export.json").read_text())
    edit(manifest["graphs"]["fp32"])
    (damaged / "onnx" / "export.json").write_text(json.dumps(manifest))
    assert says in failed(capsys, "info", damaged)
    assert says in failed(capsys, "serve", "--port", 0, "--model", damaged)


def test_a_corrupted_graph_is_one_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    damaged = Path(shutil.copytree(model, tmp_path / "model"))
    graph = damaged / "onnx" / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    for command in (["info", damaged], ["serve", "--port", 0, "--model", damaged]):
        assert "SHA-256 differs" in failed(capsys, *command)
