"""What an export writes, keeps, checks and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from tiny import make_checkpoint

from encoder_tools.errors import ExportError, FileCorruptError, FileMissingError, InputError, ParityError
from encoder_tools.model.int8_grid import to_grid
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.graph.graph_file import open_graph
from encoder_tools.onnx_export.graph.int8_weights import store_weights_as_int8
from encoder_tools.runtime import OnnxEncoder

TEXTS = ["one", "", "A text that the battery does not hold, with 17 commas?", "ربما", "long " * 90]


def build(checkpoint: Path, out: Path, pooling: str = "mean") -> Path:
    from encoder_tools.extraction import extract

    extract(checkpoint, out, pooling=pooling, dense=(24,))
    return out


def test_dense_with_bias_and_activation_and_no_normalize(minilm_source: Path, tmp_path: Path):
    body = Transformer(str(minilm_source))
    head = [Pooling(384, "mean"), Dense(384, 48, activation_function=torch.nn.Tanh())]
    SentenceTransformer(modules=[body, *head], device="cpu").save(str(tmp_path / "model"))
    export(tmp_path / "model")
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    assert not np.allclose(np.linalg.norm(expected, axis=1), 1)
    np.testing.assert_allclose(OnnxEncoder(tmp_path / "model").encode(TEXTS), expected, atol=1e-5)


def test_a_folder_without_tokenizer_json_gets_one_in_the_export(minilm_source: Path, tmp_path: Path):
    shutil.copytree(minilm_source, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    export(tmp_path / "model")
    assert (tmp_path / "model" / "onnx" / "tokenizer.json").is_file()
    assert OnnxEncoder(tmp_path / "model").tokenize(["Hello"]) == [[101, 7592, 102]]


def test_above_tolerance_nothing_is_written_and_the_old_export_stays(minilm_copy: Path):
    before = {file.name: file.read_bytes() for file in (minilm_copy / "onnx").iterdir()}
    with pytest.raises(ParityError, match="more than the tolerance of 1e-12"):
        export(minilm_copy, tolerance=1e-12)
    assert {file.name: file.read_bytes() for file in (minilm_copy / "onnx").iterdir()} == before
    assert not list(minilm_copy.glob(".onnx*"))
    shutil.rmtree(minilm_copy / "onnx")
    with pytest.raises(ParityError):
        export(minilm_copy, tolerance=1e-12)
    assert not (minilm_copy / "onnx").exists()


def test_a_tokenizer_that_differs_from_transformers_is_refused(minilm_copy: Path):
    file = minilm_copy / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(content), encoding="utf-8")
    # transformers restores the lower-casing from tokenizer_config.json, so only the torch-free road would differ
    with pytest.raises(ExportError, match=r"tokenizer\.json gives other ids"):
        export(minilm_copy)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ({"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}, "include_prompt"),
        ({"type": "sentence_transformers.models.LSTM", "path": "1_LSTM"}, "module of type LSTM"),
    ],
)
def test_pipelines_that_one_graph_cannot_hold_are_refused(minilm_copy: Path, module: dict[str, str], message: str):
    modules = json.loads((minilm_copy / "modules.json").read_text(encoding="utf-8"))
    modules[1].update(module)
    (minilm_copy / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    pooling = {"embedding_dimension": 384, "pooling_mode": "mean", "include_prompt": False}
    (minilm_copy / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    with pytest.raises(ExportError, match=message):
        export(minilm_copy)


def test_a_folder_without_weights_cannot_be_exported(minilm_copy: Path):
    (minilm_copy / "model.safetensors").unlink()
    with pytest.raises(FileMissingError, match="no safetensors"):
        export(minilm_copy)


def test_files_of_others_stay_and_those_of_an_earlier_export_go(minilm_copy: Path):
    onnx_folder = minilm_copy / "onnx"
    (onnx_folder / "model_O4.onnx").write_bytes(b"somebody's")
    (onnx_folder / "openvino").mkdir()
    (onnx_folder / "openvino" / "model.xml").write_text("theirs")
    assert (onnx_folder / "model_qint8.onnx").is_file()
    export(minilm_copy)
    assert (onnx_folder / "model_O4.onnx").read_bytes() == b"somebody's"
    assert (onnx_folder / "openvino" / "model.xml").read_text() == "theirs"
    assert not (onnx_folder / "model_qint8.onnx").exists()  # of the export before, which no manifest vouches for now


def test_weights_above_the_limit_of_a_protobuf_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encoder_tools.onnx_export.graph.graph_file.MOST_INSIDE", 20_000)
    model = build(make_checkpoint("t5gemma2", tmp_path / "checkpoint"), tmp_path / "model")
    report = export(model, quantize="qint8")
    assert set(report.sizes) == {
        "export.json", "model.onnx", "model.onnx.data", "model_qint8.onnx", "model_qint8.onnx.data",
    }  # fmt: skip
    expected = SentenceTransformer(str(model), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(OnnxEncoder(model).encode(TEXTS), expected, atol=1e-5)
    for variant, name in (("fp32", "model.onnx.data"), ("qint8", "model_qint8.onnx.data")):
        assert OnnxEncoder(model, variant=variant).encode(["a"]).shape == (1, 24)
        data = bytearray((model / "onnx" / name).read_bytes())
        data[100] ^= 1
        (model / "onnx" / name).write_bytes(data)
        with pytest.raises(FileCorruptError, match=name):
            OnnxEncoder(model, variant=variant)


def test_wrong_choices_are_refused(minilm_copy: Path):
    with pytest.raises(InputError):
        export(minilm_copy, quantize="int4")  # type: ignore[arg-type]
    with pytest.raises(InputError):
        export(minilm_copy, tolerance=0)


def test_int8_weights_on_the_grid_lose_nothing(minilm_source: Path, tmp_path: Path):
    model = SentenceTransformer(str(minilm_source), device="cpu")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                integers, scale = to_grid(weight.numpy(), axis=0)
                weight.copy_(torch.from_numpy(integers * scale))
    model.save(str(tmp_path / "model"))
    report = export(tmp_path / "model", store_weights="int8")
    assert report.manifest.graphs["fp32"].stored_weights == "int8"
    assert report.manifest.graphs["fp32"].max_abs_difference <= 1e-5
    assert report.sizes["model.onnx"] < 24_000_000  # 22.7M parameters, a byte each


def test_int8_weights_off_the_grid_are_refused(minilm_copy: Path):
    with pytest.raises(ParityError, match="weights stored as int8 fit only a model trained for it"):
        export(minilm_copy, store_weights="int8")


def test_tables_only_leaves_multiplied_weights_alone(minilm: Path):
    model = open_graph(minilm / "onnx" / "model.onnx")
    before = sum(value.dtype == ir.DataType.FLOAT for value in model.graph.initializers.values())
    stored = store_weights_as_int8(model, tables_only=True)
    after = sum(value.dtype == ir.DataType.FLOAT for value in model.graph.initializers.values())
    assert stored >= 1
    assert after == before  # each table gone, its scales come
