"""The manifest vouches for everything that runs: whatever is changed in an export is found when it is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from encoder_tools.errors import FileCorruptError, FileMissingError, InferenceError, InputError
from encoder_tools.io.files import sha256_of
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.runtime.manifest import external_data

Manifest = dict[str, Any]


def change(folder: Path, edit: Callable[[Manifest], object]) -> None:
    path = folder / "onnx" / "export.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def fp32(manifest: Manifest) -> dict[str, Any]:
    return manifest["graphs"]["fp32"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda m: fp32(m).update(sha256=None), r"sha256"),
        (lambda m: fp32(m).update(sha256={}), "no SHA-256 of model.onnx"),
        (lambda m: fp32(m).update(sha256={"model.onnx": 5}), "sha256"),
        (lambda m: fp32(m).update(file=5), "file"),
        (lambda m: fp32(m).update(file="../../model.onnx"), "plain file name"),
        (lambda m: fp32(m)["sha256"].update({"../x": "0"}), "plain file name"),
        (lambda m: fp32(m).pop("min_cosine"), "min_cosine"),
        (lambda m: m.update(graphs=[]), "graphs"),
        (lambda m: m.update(tolerance="small"), "tolerance"),
        (lambda m: m.update(fingerprint=None), "fingerprint"),
        (lambda m: m.update(format_version=1), "version 1, expected"),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_manifest_that_vouches_for_nothing_is_refused(minilm_copy: Path, edit: Any, says: str, verify: bool):
    change(minilm_copy, edit)
    with pytest.raises(FileCorruptError, match=says) as caught:
        OnnxEncoder(minilm_copy, verify=verify)
    assert "\n" not in str(caught.value)


def test_a_flipped_graph_under_its_old_hash_is_refused(minilm_copy: Path):
    flip(minilm_copy / "onnx" / "model.onnx")
    with pytest.raises(FileCorruptError, match="SHA-256 differs"):
        OnnxEncoder(minilm_copy)


@pytest.fixture
def external(minilm_copy: Path) -> Path:
    """An export whose weights lie beside the graph, as those above 2 GB do."""
    path = minilm_copy / "onnx" / "model.onnx"
    model = onnx.load(str(path))
    path.unlink()
    onnx.save_model(model, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=1024)

    def list_both(manifest: Manifest) -> None:
        fp32(manifest)["sha256"] = {name: sha256_of(path.with_name(name)) for name in ("model.onnx", "model.onnx.data")}

    change(minilm_copy, list_both)
    return minilm_copy


def test_external_data_runs_when_it_is_listed(external: Path, encoder: OnnxEncoder):
    assert set(external_data(external / "onnx" / "model.onnx")) == {"model.onnx.data"}
    np.testing.assert_allclose(OnnxEncoder(external).encode(["a"]), encoder.encode(["a"]), atol=1e-6)


def test_external_data_must_be_listed_be_there_and_be_the_same(external: Path):
    data = external / "onnx" / "model.onnx.data"
    flip(data)
    with pytest.raises(FileCorruptError, match=r"model\.onnx\.data is not the file"):
        OnnxEncoder(external)
    change(external, lambda manifest: fp32(manifest)["sha256"].pop("model.onnx.data"))
    with pytest.raises(FileCorruptError, match=r"takes weights from 'model\.onnx\.data', not listed"):
        OnnxEncoder(external)
    change(external, lambda manifest: fp32(manifest)["sha256"].update({"model.onnx.data": "0" * 64}))
    data.unlink()
    with pytest.raises(FileMissingError, match=r"model\.onnx\.data is missing"):
        OnnxEncoder(external)


@pytest.mark.parametrize("gap", [0, 1, 7, 40])
def test_names_of_external_data_are_found_across_chunks(
    external: Path, gap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    entry = b"\x0a\x08location\x12" + bytes([0x80 | (200 & 0x7F), 1]) + b"n" * 200
    (tmp_path / "graph").write_bytes(b"x" * (300 - gap) + entry + b"x" * 500)
    monkeypatch.setattr("encoder_tools.runtime.manifest._SCANNED_AT_ONCE", 300)
    assert "n" * 200 in set(external_data(tmp_path / "graph"))


def another_graph(folder: Path, width: int, rows: int) -> None:
    """A graph with the right names that looks words up in a small table, under a corrected hash."""
    table = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["token_embeddings"]),
            helper.make_node("ReduceMean", ["token_embeddings"], ["sentence_embedding"], axes=[1], keepdims=0),
            helper.make_node("Identity", ["attention_mask"], ["unused"]),
        ],
        "other",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "l"])
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, ["b", "l", width]),
            helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["b", "d"]),
            helper.make_tensor_value_info("unused", TensorProto.INT64, ["b", "l"]),
        ],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    path = folder / "onnx" / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    change(folder, lambda manifest: fp32(manifest).update(sha256={"model.onnx": sha256_of(path)}))


def test_a_graph_of_another_width_is_refused_when_it_is_opened(minilm_copy: Path):
    another_graph(minilm_copy, width=16, rows=40_000)
    with pytest.raises(FileCorruptError, match=r"shape \(1, 16\), but .* width 384"):
        OnnxEncoder(minilm_copy)


def test_a_graph_with_a_smaller_word_table_is_refused_when_it_is_opened(minilm_copy: Path):
    another_graph(minilm_copy, width=384, rows=100)
    with pytest.raises(FileCorruptError, match="cannot encode id 30521 of its own tokenizer"):
        OnnxEncoder(minilm_copy)


def test_a_failure_of_onnx_runtime_is_one_error_of_ours(encoder: OnnxEncoder):
    with pytest.raises(InferenceError, match="ONNX Runtime failed on 1 texts of up to 2 tokens") as caught:
        encoder.encode_tokens([[101, 10**6]], check=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "settings", "says"),
    [
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("sentence_bert_config.json", {"max_seq_length": 100}, "other configuration, tokenizer, maximum length"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length is '0', expected a positive number"),
        ("sentence_bert_config.json", {"max_seq_length": 2}, "leaves no room for the text"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "expected a positive number"),
        ("tokenizer_config.json", {"model_max_length": 0}, "model_max_length"),
        ("tokenizer_config.json", {"model_max_length": "big"}, "model_max_length"),
        ("tokenizer_config.json", {"truncation_side": "up"}, "truncation_side is 'up', expected 'left' or 'right'"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "other configuration"),
        ("config.json", {"max_position_embeddings": -5}, "max_position_embeddings"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt"),
        ("1_Pooling/config.json", {"pooling_mode": 7}, "pooling_mode is 7"),
        ("config_sentence_transformers.json", {"prompts": {"query": "\ud800"}}, "surrogates not allowed"),
    ],
)
def test_settings_that_a_graph_cannot_hold_or_that_make_no_sense_are_refused(
    minilm_copy: Path, file: str, settings: Manifest, says: str
):
    path = minilm_copy / file
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")
    if "max_seq_length" not in settings:  # the tokenizer's is asked only where there is no explicit one
        explicit = minilm_copy / "sentence_bert_config.json"
        rest = json.loads(explicit.read_text(encoding="utf-8"))
        rest.pop("max_seq_length", None)
        explicit.write_text(json.dumps(rest), encoding="utf-8")
    with pytest.raises(FileCorruptError, match=says):
        OnnxEncoder(minilm_copy, verify="other configuration" in says)  # senseless settings are refused in any case


def test_the_advice_fits_a_folder_that_ships_without_weights(minilm_copy: Path):
    with pytest.raises(InputError, match=r"no variant 'q4'; it has fp32, qint8\. Make it with"):
        OnnxEncoder(minilm_copy, variant="q4")
    with pytest.raises(InputError) as caught:
        OnnxEncoder("default", variant="fp16")
    assert str(caught.value).endswith("it has fp32, qint8.")
    (minilm_copy / "model.safetensors").unlink()
    flip(minilm_copy / "onnx" / "model.onnx")
    with pytest.raises(FileCorruptError, match="Restore the folder from its source"):
        OnnxEncoder(minilm_copy)


def test_the_shipped_model_goes_by_its_name_and_a_folder_of_that_name_by_its_path(
    minilm_copy: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.move(minilm_copy, minilm_copy.parent / "default")
    monkeypatch.chdir(minilm_copy.parent)
    assert OnnxEncoder("default").name == "default"
    assert OnnxEncoder("default").max_length == 512
    assert OnnxEncoder("./default").max_length == 256
