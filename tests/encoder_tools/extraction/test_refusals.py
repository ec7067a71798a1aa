from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_checkpoint
from transformers import ByT5Tokenizer

from encoder_tools.errors import (
    CheckpointFamilyError,
    CheckpointTensorError,
    EncoderToolsError,
    FileCorruptError,
    FileMissingError,
    InputError,
    ProofError,
)
from encoder_tools.extraction import extract


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("t5", tmp_path_factory.mktemp("t5") / "checkpoint")


@pytest.fixture(scope="module")
def t5gemma2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("t5gemma2", tmp_path_factory.mktemp("t5gemma2") / "checkpoint")


def refused(checkpoint: Path, out: Path, error: type[EncoderToolsError], message: str, **options: Any) -> None:
    """The call fails with one line of this kind, and leaves nothing behind."""
    with pytest.raises(error, match=message) as caught:
        extract(checkpoint, out, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not list(out.parent.glob(".*tmp*"))


def change_tensors(source: Path, copy: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(source, copy)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def change_config(source: Path, copy: Path, **changes: Any) -> Path:
    shutil.copytree(source, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **changes}))
    return copy


ENCODER = "encoder.block.1.layer.0.SelfAttention.q.weight"
DECODER = "decoder.block.1.layer.2.DenseReluDense.wi.weight"


@pytest.mark.parametrize("name", [ENCODER, DECODER, "shared.weight"])
def test_a_missing_tensor(t5: Path, tmp_path: Path, name: str):
    broken = change_tensors(t5, tmp_path / "in", lambda tensors: tensors.__delitem__(name))
    refused(broken, tmp_path / "out", CheckpointTensorError, f"1 missing tensor: {name}")


@pytest.mark.parametrize("name", ["encoder.block.9.layer.0.SelfAttention.q.weight", "surprise"])
def test_an_extra_tensor(t5: Path, tmp_path: Path, name: str):
    broken = change_tensors(t5, tmp_path / "in", lambda tensors: tensors.update({name: torch.ones(2)}))
    refused(broken, tmp_path / "out", CheckpointTensorError, f"1 extra tensor: {name}")


@pytest.mark.parametrize("name", ["encoder.block.0.layer.1.DenseReluDense.wi.weight", DECODER])
def test_a_misshapen_tensor(t5: Path, tmp_path: Path, name: str):
    def transpose(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name].T.contiguous()

    broken = change_tensors(t5, tmp_path / "in", transpose)
    refused(broken, tmp_path / "out", CheckpointTensorError, rf"1 misshapen tensor: {name} of shape \[32, 48\]")


def test_a_vision_tensor_counts_too(t5gemma2: Path, tmp_path: Path):
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[next(name for name in tensors if "vision_tower" in name)]

    broken = change_tensors(t5gemma2, tmp_path / "in", drop)
    refused(broken, tmp_path / "out", CheckpointTensorError, "1 missing tensor")


def test_tied_copies_that_are_equal_are_dropped_and_others_refused(t5: Path, tmp_path: Path):
    alias = "encoder.embed_tokens.weight"

    def tie(tensors: dict[str, torch.Tensor]) -> None:
        tensors[alias] = tensors["shared.weight"].clone()

    report = extract(change_tensors(t5, tmp_path / "same", tie), tmp_path / "out")
    assert "tied alias" in report.dropped[alias]

    def untie(tensors: dict[str, torch.Tensor]) -> None:
        tensors[alias] = tensors["shared.weight"] + 1

    refused(change_tensors(t5, tmp_path / "other", untie), tmp_path / "b", CheckpointTensorError, "their bytes differ")


def test_a_word_table_stored_only_under_its_alias_is_found(t5: Path, tmp_path: Path):
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")

    report = extract(change_tensors(t5, tmp_path / "in", rename), tmp_path / "out")
    assert report.renamed == {"encoder.embed_tokens.weight": "shared.weight"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "is_encoder_decoder": False}, "decoder-only"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"], "is_encoder_decoder": False}, "encoder already"),
        ({"model_type": "fsmt", "architectures": ["FSMTForConditionalGeneration"]}, "not supported"),
        ({"model_type": "nonsense", "architectures": None, "is_encoder_decoder": False}, "unknown architecture"),
        ({"model_type": None}, "names no model_type"),
        ({"architectures": ["BertModel"]}, "not a T5 class"),
        ({"architectures": ["T5Nothing"]}, "not a T5 class"),
        ({"num_layers": "three"}, "cannot make a configuration"),
    ],
)
def test_other_architectures(t5: Path, tmp_path: Path, changes: dict[str, Any], message: str):
    refused(change_config(t5, tmp_path / "in", **changes), tmp_path / "out", CheckpointFamilyError, message)


def test_a_configuration_of_another_size(t5: Path, tmp_path: Path):
    refused(change_config(t5, tmp_path / "in", d_ff=64), tmp_path / "out", CheckpointTensorError, "misshapen")
    refused(change_config(t5, tmp_path / "deep", num_layers=4), tmp_path / "out", CheckpointTensorError, "missing")


def test_pickled_weights(t5: Path, tmp_path: Path):
    shutil.copytree(t5, tmp_path / "in")
    (tmp_path / "in" / "model.safetensors").rename(tmp_path / "in" / "pytorch_model.bin")
    refused(tmp_path / "in", tmp_path / "out", CheckpointFamilyError, r"pytorch_model\.bin.*refs/pr/1")


def test_missing_files(t5: Path, tmp_path: Path):
    refused(tmp_path / "nowhere", tmp_path / "out", FileMissingError, "not a folder")
    for number, name in enumerate(["config.json", "model.safetensors"]):
        shutil.copytree(t5, tmp_path / str(number))
        (tmp_path / str(number) / name).unlink()
        refused(tmp_path / str(number), tmp_path / "out", FileMissingError, name.replace(".", r"\."))
    shutil.copytree(t5, tmp_path / "mute", ignore=shutil.ignore_patterns("tokenizer*"))
    refused(tmp_path / "mute", tmp_path / "out", FileMissingError, "no tokenizer")


def test_a_hub_id_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileMissingError, match=r"'nobody/nothing' is no local folder, and the hub did not give it"):
        extract("nobody/nothing", tmp_path / "out")


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_truncated_weights(t5: Path, tmp_path: Path, kept: int):
    shutil.copytree(t5, tmp_path / "in")
    weights = tmp_path / "in" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    refused(tmp_path / "in", tmp_path / "out", FileCorruptError, "not a whole safetensors file")


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ({"weight_map": {"a": "../../secret"}}, FileCorruptError, "plain file name"),
        ({"weight_map": {"a": "absent.safetensors"}}, FileMissingError, "absent.safetensors"),
        ({"weight_map": ["a"]}, FileCorruptError, "no weight_map"),
        ([], FileCorruptError, "expected an object"),
    ],
)
def test_hostile_indexes(t5: Path, tmp_path: Path, index: object, error: type[EncoderToolsError], message: str):
    shutil.copytree(t5, tmp_path / "in")
    (tmp_path / "in" / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(tmp_path / "in", tmp_path / "out", error, message)


def test_a_tokenizer_of_another_model(t5: Path, tmp_path: Path):
    shutil.copytree(t5, tmp_path / "in", ignore=shutil.ignore_patterns("tokenizer.json"))
    ByT5Tokenizer().save_pretrained(tmp_path / "in")
    refused(tmp_path / "in", tmp_path / "out", CheckpointTensorError, "ids up to 383, but the word table has 320 rows")


def test_a_broken_tokenizer(t5: Path, tmp_path: Path):
    shutil.copytree(t5, tmp_path / "in")
    (tmp_path / "in" / "tokenizer.json").write_text("{")
    refused(tmp_path / "in", tmp_path / "out", FileCorruptError, "cannot read the tokenizer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "gemma3"}, "T5 has no layout 'gemma3'"),
        ({"keep_vision": True}, "only T5Gemma 2"),
        ({"pooling": "median"}, "Unknown pooling"),
        ({"dense": (0,)}, "positive widths"),
        ({"max_length": 0}, "max_length is 0, expected an integer of 1"),
    ],
)
def test_impossible_options(t5: Path, tmp_path: Path, options: dict[str, Any], message: str):
    refused(t5, tmp_path / "out", InputError, message, **options)


def test_a_copy_that_differs_by_one_bit_is_caught(t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from encoder_tools.extraction import tensor_copy as copying

    honest = copying.write_tensors

    def flip(path: Path, *rest: Any) -> None:
        honest(path, *rest)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(copying, "write_tensors", flip)
    refused(t5, tmp_path / "out", ProofError, "was not written as it stands")


def test_an_encoder_that_computes_something_else_is_caught(t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from encoder_tools.families.t5 import T5Family

    honest = T5Family.target

    def wrong(self: T5Family, *arguments: Any) -> Any:
        target = honest(self, *arguments)
        target.config["relative_attention_max_distance"] = 7  # same shapes, another function
        return target

    monkeypatch.setattr(T5Family, "target", wrong)
    refused(t5, tmp_path / "out", ProofError, "differ from the source's by")


_FULL_DISK = """
import resource, signal, sys
from encoder_tools.errors import SaveError
from encoder_tools.extraction import extract
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    extract(sys.argv[1], sys.argv[2], overwrite=True)
except SaveError as error:
    print(error)
    sys.exit(7)
"""


def test_a_full_disk_leaves_the_old_folder(t5: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    command = [sys.executable, "-c", _FULL_DISK, str(t5), str(tmp_path / "out")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it would write too
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert result.returncode == 7, result.stderr
    assert result.stdout.startswith("Could not write")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["old.txt"]
    assert not list(tmp_path.glob(".*"))
