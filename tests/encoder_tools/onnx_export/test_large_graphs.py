"""Weights beside the graph: written as they are read, mapped when they are used, and never needed twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny import make_checkpoint

from encoder_tools.errors import FileCorruptError, ResourceError
from encoder_tools.extraction import extract
from encoder_tools.machine import room
from encoder_tools.model.tensor_files import copy_as_float32
from encoder_tools.onnx_export import export, variants
from encoder_tools.onnx_export.graph import graph_file
from encoder_tools.onnx_export.graph.graph_file import open_graph, save_graph, weight_bytes
from encoder_tools.runtime import OnnxEncoder

TEXTS = ["one", "", "A text that the battery does not hold, with 17 commas?", "ربما", "long " * 90]


def adding(weights: dict[str, np.ndarray]) -> ir.Model:
    """A graph that gives each of its weights plus x, so that what ONNX Runtime reads can be seen."""
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=ir.Shape([1]))
    values = [ir.val(name, const_value=ir.tensor(array, name=name)) for name, array in weights.items()]
    nodes = []
    for value in values:
        cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT})
        add = ir.node("Add", [cast.outputs[0], x])
        add.outputs[0].name, add.outputs[0].type = f"{value.name}.out", ir.TensorType(ir.DataType.FLOAT)
        nodes += [cast, add]
    graph = ir.Graph([x], [node.outputs[0] for node in nodes[1::2]], nodes=nodes, opset_imports={"": 21}, name="g")
    for value in values:
        graph.register_initializer(value)
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize("inside", [0, 1 << 30])
def test_weights_of_every_dtype_and_stride_are_read_back_by_onnx_runtime(
    inside: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(graph_file, "MOST_INSIDE", inside)
    monkeypatch.setattr(graph_file, "_BLOCK", 5000)
    random = np.random.default_rng(0)
    weights = {
        "table": random.normal(size=(700, 33)).astype(np.float32),
        "transposed": random.normal(size=(90, 410)).astype(np.float32).T,
        "half": random.normal(size=(77, 64)).astype(np.float16),
        "bytes": random.integers(-128, 127, size=(5, 1000)).astype(np.int8),
        "row": random.normal(size=3000).astype(np.float32),
        "empty": np.zeros((0, 8), dtype=np.float32),
        "one": np.float32(3.5).reshape(()),
    }
    model = adding(weights)
    files = save_graph(model, tmp_path / "model.onnx")
    assert [file.name for file in files] == ["model.onnx", "model.onnx.data"][: 1 if inside else 2]
    session = onnxruntime.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
    read = session.run(None, {"x": np.zeros(1, np.float32)})
    opened = open_graph(files[0])
    assert weight_bytes(opened) == sum(array.nbytes for array in weights.values())
    for (name, array), result in zip(weights.items(), read, strict=True):
        np.testing.assert_array_equal(result, array.astype(np.float32))
        np.testing.assert_array_equal(opened.graph.initializers[name].const_value.numpy(), array)
        np.testing.assert_array_equal(model.graph.initializers[name].const_value.numpy(), array)  # mapped now


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("inside", [0, 1 << 30])
def test_a_checkpoint_of_sixteen_bits_is_exported_in_fp32(
    dtype: str, inside: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(graph_file, "MOST_INSIDE", inside)
    extract(make_checkpoint("t5gemma2", tmp_path / "checkpoint", dtype=dtype), tmp_path / "model", dense=(24,))
    report = export(tmp_path / "model")
    assert {path.name for path in report.folder.iterdir()} == set(report.sizes)  # nothing of the conversion is left
    assert ("model.onnx.data" in report.sizes) == (not inside)
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu", model_kwargs={"dtype": torch.float32})
    np.testing.assert_allclose(OnnxEncoder(tmp_path / "model").encode(TEXTS), model.encode(TEXTS), atol=1e-5)


def test_a_copy_in_float32_holds_the_same_numbers(tmp_path: Path):
    torch.manual_seed(0)
    tensors = {
        "bf16": torch.randn(40, 3).bfloat16(),
        "f16": torch.randn(7).half(),
        "f32": torch.randn(5, 5),
        "f64": torch.randn(2, 2, 2).double(),
        "ids": torch.arange(9),
        "empty": torch.empty(0, 4).bfloat16(),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    copy_as_float32(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    copied = load_file(tmp_path / "b.safetensors")
    assert set(copied) == set(tensors)
    for name, value in tensors.items():
        expected = value.float() if value.is_floating_point() else value
        assert copied[name].dtype == expected.dtype
        assert torch.equal(copied[name], expected)
    save_file({"w": torch.zeros(3, dtype=torch.float8_e4m3fn)}, tmp_path / "c.safetensors")
    with pytest.raises(FileCorruptError, match=r"w in .* is stored as F8_E4M3"):
        copy_as_float32(tmp_path / "c.safetensors", tmp_path / "d.safetensors")


def test_what_will_not_fit_is_refused_before_the_work(minilm_copy: Path, monkeypatch: pytest.MonkeyPatch):
    before = {file.name: file.read_bytes() for file in (minilm_copy / "onnx").iterdir()}
    monkeypatch.setattr(room, "available_memory", lambda: 500_000_000)
    lines: list[str] = []
    with pytest.raises(ResourceError, match=r"Exporting .* of memory; 0\.5 GB are available"):
        export(minilm_copy, log=lines.append)
    assert lines == []
    assert {file.name: file.read_bytes() for file in (minilm_copy / "onnx").iterdir()} == before


def test_memory_that_runs_out_on_the_way_is_one_clear_line(minilm_copy: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(variants, "open_session", full)
    with pytest.raises(ResourceError, match="There was not enough memory to export"):
        export(minilm_copy)
