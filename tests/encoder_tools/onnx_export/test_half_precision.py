"""Half precision on encoders whose numbers go far beyond what float16 holds: scaled exactly, near, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.torch import load_file, save_file
from tiny import make_checkpoint

from encoder_tools.errors import ExportError, InputError, ParityError, ProviderError
from encoder_tools.extraction import extract
from encoder_tools.onnx_export import export, variants
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.onnx_export.graph import graph_file
from encoder_tools.onnx_export.graph.graph_file import open_graph, save_graph
from encoder_tools.onnx_export.half.conversion import FLOAT16, LEVELS
from encoder_tools.onnx_export.half.variant import plan_scaling, scaled_graph, write_emulation, write_half
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.runtime.session import open_session

_GEMMA = {"num_hidden_layers": 9, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 3}
_T5 = {"num_layers": 8}
CASES = [  # family, seed, factor of what is added to the residual stream, sizes
    ("t5gemma2", 0, 5e4, {}),
    ("t5gemma2", 3, 1e6, _GEMMA),
    ("t5gemma", 1, 5e4, _GEMMA),
    ("t5", 2, 1e5, _T5),
    ("t5v1_1", 0, 3e5, {}),
    ("longt5_tglobal", 0, 1e5, {}),
]


@pytest.fixture(autouse=True)
def fewer_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level is measured over 300 texts instead of 1,200."""
    monkeypatch.setattr(variants, "_MOST", 300)


def overflowing(family: str, seed: int, factor: float, sizes: dict[str, Any], folder: Path) -> Path:
    """An extracted encoder whose layers add numbers ``factor`` times as large as usual to the residual stream."""
    make_checkpoint(family, folder / "checkpoint", seed=seed, config=sizes)
    file = folder / "checkpoint" / "model.safetensors"
    tensors = load_file(file)
    ends = ("post_", ".norm") if family.startswith("t5gemma") else (".wo.weight", ".o.weight")
    for name in tensors:
        gemma = family.startswith("t5gemma") and "post_" in name and "norm" in name
        if "encoder" in name and (gemma or name.endswith(ends)):
            tensors[name] = tensors[name] * factor
    save_file(tensors, file, {"format": "pt"})
    extract(folder / "checkpoint", folder / "model", dense=(24,))
    return folder / "model"


def feeds(model: Path, texts: list[str]) -> list[dict[str, np.ndarray]]:
    batches = []
    for ids in OnnxEncoder(model).tokenize(texts):
        batches.append({"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)})
    return batches


def vectors(graph: Path, batches: list[dict[str, np.ndarray]]) -> np.ndarray:
    session = open_session(graph, "cpu", 1)
    rows = [session.run(["sentence_embedding"], feed)[0] for feed in batches]
    made = np.concatenate(rows).astype(np.float64)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize(("family", "seed", "factor", "sizes"), CASES)
def test_an_encoder_that_overflows_is_scaled_exactly_and_stays_near(
    family: str, seed: int, factor: float, sizes: dict[str, Any], tmp_path: Path
):
    model = overflowing(family, seed, factor, sizes, tmp_path)
    lines: list[str] = []
    report = export(model, precision="fp16", log=lines.append)
    entry = report.manifest.graphs["fp16"]
    assert entry.half is not None
    assert entry.half.peak > 1e5
    assert entry.half.exponent > 0
    assert entry.min_cosine >= 0.9999
    assert any(line.startswith("scaled in float32: worst difference") for line in lines)
    assert set(report.sizes) == {"export.json", "model.onnx", "model_fp16.onnx"}

    # other texts than those that the ranges were measured on, and a plain conversion beside it
    graph, half = model / "onnx" / "model.onnx", model / "onnx" / "model_fp16.onnx"
    texts = [
        f"{left.upper()} {right}" for left, right in zip(real_sentences()[:40], real_sentences()[300:340], strict=True)
    ]
    batches = feeds(model, texts)
    expected = vectors(graph, batches)
    scaling = plan_scaling(graph, FLOAT16, batches)
    save_graph(scaled_graph(graph, scaling), tmp_path / "scaled.onnx")
    np.testing.assert_allclose(vectors(tmp_path / "scaled.onnx", batches), expected, rtol=0, atol=1e-6)
    write_emulation(half, half.with_name("emulated.onnx"), FLOAT16)
    assert (vectors(half.with_name("emulated.onnx"), batches) * expected).sum(axis=1).min() >= 0.9999
    write_half(graph, tmp_path / "plain.onnx", FLOAT16, scaling, guard=False)
    write_emulation(tmp_path / "plain.onnx", tmp_path / "emulated.onnx", FLOAT16)
    assert np.isnan(vectors(tmp_path / "emulated.onnx", batches)).any()

    encoder = OnnxEncoder(model, variant="fp16")
    assert encoder.encode(["a text"]).dtype == np.float32
    assert encoder.fingerprint == f"{report.manifest.fingerprint}-fp16"


def test_numbers_of_a_gate_that_cannot_be_scaled_stay_in_float32(tmp_path: Path):
    make_checkpoint("t5v1_1", tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "model.safetensors"
    tensors = load_file(file)
    for name in tensors:
        if "encoder.block.1" in name and "wi_0" in name:  # the input of GELU, which is not homogeneous
            tensors[name] = tensors[name] * 1e5
    save_file(tensors, file, {"format": "pt"})
    extract(tmp_path / "checkpoint", tmp_path / "model")
    entry = export(tmp_path / "model", precision="fp16").manifest.graphs["fp16"]
    assert entry.half is not None
    assert entry.min_cosine >= 0.9999
    assert any("block.1" in name and "DenseReluDense" in name for name in entry.half.islands)
    assert not any("block.0" in name or "block.2" in name for name in entry.half.islands)


def test_attention_scores_beyond_float16_stay_in_float32(tmp_path: Path):
    make_checkpoint("t5", tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "model.safetensors"
    tensors = load_file(file)
    for name in tensors:
        if "encoder.block.2" in name and name.endswith((".q.weight", ".k.weight")):
            tensors[name] = tensors[name] * 300
    save_file(tensors, file, {"format": "pt"})
    extract(tmp_path / "checkpoint", tmp_path / "model")
    export(tmp_path / "model", precision="fp16", min_cosine=0.99, tolerance=1e-3)  # sharp attention
    names = json.loads((tmp_path / "model" / "onnx" / "export.json").read_text())["graphs"]["fp16"]["half"]["islands"]
    assert any("block.2" in name and "scaled_dot_product_attention" in name for name in names)


def test_numbers_that_are_infinite_in_float32_are_refused_by_layer(tmp_path: Path):
    model = overflowing("t5", 0, 1e3, {}, tmp_path)
    file = model / "model.safetensors"
    tensors = load_file(file)
    for name in tensors:
        if "block.1" in name and "wi" in name:
            tensors[name] = tensors[name] * 1e38
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ExportError, match=r"The layer '.*block\.1\.layer\.1.*' gives NaN or infinity in float32"):
        export(model, precision="fp16")
    assert not (model / "onnx").exists()


def test_what_no_level_brings_near_enough_is_refused_with_the_layer(tmp_path: Path):
    model = overflowing("t5gemma2", 0, 5e4, {}, tmp_path)
    lines: list[str] = []
    with pytest.raises(ParityError, match=r"less than 1, .* differ most in '[\w.]+/\w+' \(relative error"):
        export(model, precision="fp16", min_cosine=1.0, log=lines.append)
    tried = {
        line.partition("in float32: ")[2].partition(",")[0] for line in lines if "cosine of the fp16 graph" in line
    }
    assert {level.in_float32.partition(",")[0] for level in LEVELS} <= tried
    assert not (model / "onnx").exists()
    entry = export(model, precision="bf16", min_cosine=0.99).manifest.graphs["bf16"]
    assert entry.half is not None
    assert entry.half.exponent == 0  # bfloat16 has the range of float32
    with pytest.raises(ProviderError, match="no bfloat16 for a CPU"):
        OnnxEncoder(model, variant="bf16")
    with pytest.raises(InputError, match="--precision fp16"):
        OnnxEncoder(model, variant="fp16")


def test_the_half_graph_is_half_the_file_also_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graph_file, "MOST_INSIDE", 0)
    model = overflowing("t5gemma2", 0, 5e4, {"hidden_size": 64}, tmp_path)
    report = export(model, precision="fp16")
    assert set(report.sizes) == {
        "export.json", "model.onnx", "model.onnx.data", "model_fp16.onnx", "model_fp16.onnx.data",
    }  # fmt: skip
    assert report.sizes["model_fp16.onnx.data"] < 0.7 * report.sizes["model.onnx.data"]
    assert OnnxEncoder(model, variant="fp16").encode(["a text"]).shape == (1, 24)


@pytest.mark.parametrize(("stored", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_weights_stored_in_the_dtype_of_the_checkpoint_lose_nothing(stored: Any, dtype: str, tmp_path: Path):
    extract(make_checkpoint("t5", tmp_path / "checkpoint", dtype=dtype, config={"d_model": 64}), tmp_path / "model")
    whole = export(tmp_path / "model").sizes["model.onnx"]
    expected = OnnxEncoder(tmp_path / "model").encode(list(real_sentences()[:20]))
    report = export(tmp_path / "model", store_weights=stored)
    assert report.sizes["model.onnx"] < 0.65 * whole
    assert report.manifest.graphs["fp32"].stored_weights == stored
    np.testing.assert_allclose(
        OnnxEncoder(tmp_path / "model").encode(list(real_sentences()[:20])), expected, rtol=0, atol=1e-6
    )
    types = {
        value.dtype for value in open_graph(tmp_path / "model" / "onnx" / "model.onnx").graph.initializers.values()
    }
    assert (ir.DataType.BFLOAT16 if stored == "bf16" else ir.DataType.FLOAT16) in types


def test_weights_that_do_not_fit_their_storage_and_contradictions_are_refused(minilm_copy: Path):
    with pytest.raises(ParityError, match="weights stored as bf16 are exact only for a model saved in it"):
        export(minilm_copy, store_weights="bf16")
    for choices in (
        {"store_weights": "fp16", "precision": "fp16"},
        {"store_weights": "bf16", "quantize": "qint8"},
        {"store_weights": "int8", "precision": "bf16"},
        {"precision": "fp8"},
        {"precision": "fp16", "min_cosine": 2.0},
    ):
        with pytest.raises(InputError):
            export(minilm_copy, **choices)  # type: ignore[arg-type]
