"""Int8 graphs: smoothing changes nothing in float32, outliers do not spoil vectors, and the choice is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.torch import load_file, save_file
from tiny import make_checkpoint

from encoder_tools.errors import InputError
from encoder_tools.extraction import extract
from encoder_tools.machine.processor import Processor
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.tokenizer import TextTokenizer, padded_batches
from encoder_tools.onnx_export import export, variants
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.onnx_export.graph.graph_file import open_graph, save_graph
from encoder_tools.onnx_export.graph.int8_weights import restore_matrices, store_weights_as_int8
from encoder_tools.onnx_export.int8.int8_plan import plan_int8
from encoder_tools.onnx_export.int8.products import find_groups
from encoder_tools.onnx_export.int8.rewriting import Treatment, smooth_all, to_int8
from encoder_tools.onnx_export.int8.smoothing import Smoothing
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.runtime.automatic import choose_variant
from encoder_tools.runtime.manifest import INT8_MEAN, INT8_WORST, Manifest
from encoder_tools.runtime.session import open_session
from encoder_tools.vectors import unit_rows

FAMILIES = ["t5", "t5v1_1", "t5gemma2", "bart", "mbart", "longt5"]
FAST = Processor("fast", "x86_64", ("avx2", "avx512-vnni"), 2, 2)
SLOW = Processor("slow", "x86_64", ("avx2",), 2, 2)


@pytest.fixture(autouse=True)
def fewer_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates are measured over 120 texts instead of 1,200."""
    monkeypatch.setattr(variants, "_MOST", 120)


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    extract(make_checkpoint(request.param, folder / "checkpoint", seed=1), folder / "model", dense=(24,))
    export(folder / "model")
    return folder / "model"


def feeds(model: Path, texts: list[str]) -> list[dict[str, np.ndarray]]:
    folder = ModelFolder.open(model)
    ids = TextTokenizer(folder.tokenizer_file, folder.max_length)(texts)
    return [
        {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask} for batch in padded_batches(ids, 512, 0)
    ]


def vectors(graph: Path, batches: list[dict[str, np.ndarray]]) -> np.ndarray:
    session = open_session(graph, "cpu", 1)
    return unit_rows(np.concatenate([session.run(["sentence_embedding"], batch)[0] for batch in batches]))


def random_smoothings(model: ir.Model, seed: int) -> dict[str, Smoothing]:
    """Divisors from 1/8 to 8 for every tensor, all of them worth a node."""
    random = np.random.default_rng(seed)
    made = {}
    for group in find_groups(model.graph):
        divisors = (2.0 ** random.uniform(-3, 3, len(group.products[0].matrix()))).astype(np.float32)
        made[str(group.tensor.name)] = Smoothing(divisors, [0.0], [1.0])
    return made


def test_smoothing_changes_nothing_in_float32_and_costs_nothing_where_constants_take_it(exported: Path, tmp_path: Path):
    graph = exported / "onnx" / "model.onnx"
    model = open_graph(graph)
    before = sum(1 for _ in model.graph)
    smoothings = random_smoothings(model, 0)
    smooth_all(model.graph, smoothings)
    added = sum(1 for _ in model.graph) - before
    assert 0 <= added < len(smoothings)  # norms, gates, values and ReLUs take their factors in
    save_graph(model, tmp_path / "smoothed.onnx")
    batches = feeds(exported, list(real_sentences())[::8])
    np.testing.assert_allclose(vectors(tmp_path / "smoothed.onnx", batches), vectors(graph, batches), rtol=0, atol=2e-5)


@pytest.mark.parametrize("treatment", ["tensor", "row"])
def test_products_in_int8_are_near(exported: Path, treatment: Treatment, tmp_path: Path):
    graph = exported / "onnx" / "model.onnx"
    model = open_graph(graph)
    names = [str(group.tensor.name) for group in find_groups(model.graph)]
    products = sum(len(group.products) for group in find_groups(model.graph))
    to_int8(model, {}, dict.fromkeys(names, treatment))
    assert [node.op_type for node in model.graph].count("MatMulIntegerToFloat") == products > 0
    assert find_groups(model.graph) == []
    save_graph(model, tmp_path / "int8.onnx")
    batches = feeds(exported, list(real_sentences())[::8])
    cosines = (vectors(graph, batches) * vectors(tmp_path / "int8.onnx", batches)).sum(axis=1)
    assert cosines.min() > 0.98
    assert cosines.min() < 1 - 1e-7  # another graph


def test_with_a_scale_for_each_row_a_vector_does_not_depend_on_its_batch(exported: Path, tmp_path: Path):
    model = open_graph(exported / "onnx" / "model.onnx")
    to_int8(model, {}, {str(group.tensor.name): "row" for group in find_groups(model.graph)})
    save_graph(model, tmp_path / "rows.onnx")
    texts = ["the encoder reads", "a much longer text, so that the first one is padded " * 3]
    together = vectors(tmp_path / "rows.onnx", feeds(exported, texts))
    alone = vectors(tmp_path / "rows.onnx", feeds(exported, texts[:1]))
    assert float((together @ alone.T).max()) > 0.9995  # a rounding that falls otherwise moves it a little


def test_rows_of_zeros_stay_zero(tmp_path: Path):
    weight = ir.val("w", const_value=ir.tensor(np.ones((64, 32), dtype=np.float32), name="w"))
    rows = ir.val("x", dtype=ir.DataType.FLOAT, shape=ir.Shape(["n", 64]))
    product = ir.node("MatMul", [rows, weight])
    product.outputs[0].name, product.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    product.outputs[0].shape = ir.Shape(["n", 32])
    graph = ir.Graph([rows], [product.outputs[0]], nodes=[product], initializers=[weight], opset_imports={"": 21})
    model = ir.Model(graph, ir_version=10)
    to_int8(model, {}, {"x": "row"})
    save_graph(model, tmp_path / "zeros.onnx")
    given = np.zeros((2, 64), dtype=np.float32)
    given[1] = 3
    result = open_session(tmp_path / "zeros.onnx", "cpu", 1).run(["y"], {"x": given})[0]
    np.testing.assert_allclose(result, [[0] * 32, [192] * 32], rtol=1e-2)


def with_outliers(family: str, folder: Path) -> Path:
    """A model of which a few channels of every norm are 60 times as large, and the matrices behind take it back."""
    make_checkpoint(family, folder / "checkpoint", seed=2)
    file = folder / "checkpoint" / "model.safetensors"
    tensors = load_file(file)
    norm, behind = {
        "t5": ("layer.0.layer_norm.weight", ("SelfAttention.q", "SelfAttention.k", "SelfAttention.v")),
        "umt5": ("layer.0.layer_norm.weight", ("SelfAttention.q", "SelfAttention.k", "SelfAttention.v")),
    }[family]
    for name in [name for name in tensors if "encoder" in name and name.endswith(norm)]:
        for channel in (3, 17):
            tensors[name][channel] *= 60
            for layer in behind:
                matrix = name.replace("layer_norm", layer)
                tensors[matrix][:, channel] /= 60
    save_file(tensors, file, {"format": "pt"})
    extract(folder / "checkpoint", folder / "model", dense=(24,))
    export(folder / "model")
    return folder / "model"


@pytest.mark.parametrize("family", ["t5", "umt5"])
def test_outliers_in_channels_are_smoothed_away(family: str, tmp_path: Path):
    model = with_outliers(family, tmp_path)
    graph = model / "onnx" / "model.onnx"
    batches = feeds(model, list(real_sentences())[::4])
    plan = plan_int8(graph, batches, batches[:1])
    exact = vectors(graph, batches)
    errors = []
    for smoothings in ({}, plan.smoothings):
        changed = open_graph(graph)
        to_int8(changed, smoothings, {})
        save_graph(changed, tmp_path / "int8.onnx")
        errors.append(1 - float((exact * vectors(tmp_path / "int8.onnx", batches)).sum(axis=1).mean()))
    assert errors[1] < errors[0] / 3
    assert all(plan.smoothings[name].gain >= 1 for name in plan.order)


def test_matrices_stored_as_int8_are_restored_as_they_were(exported: Path, tmp_path: Path):
    packed = open_graph(exported / "onnx" / "model.onnx")
    store_weights_as_int8(packed)
    save_graph(packed, tmp_path / "packed.onnx")
    restored = open_graph(tmp_path / "packed.onnx")
    assert find_groups(restored.graph) == []
    assert restore_matrices(restored) > 0
    assert len(find_groups(restored.graph)) > 0
    save_graph(restored, tmp_path / "restored.onnx")
    batches = feeds(exported, list(real_sentences())[::8])
    left, right = (vectors(tmp_path / f"{name}.onnx", batches) for name in ("packed", "restored"))
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("store_weights", ["fp32", "int8"])
def test_the_export_says_how_it_was_quantized_and_auto_follows_its_figures(store_weights: str, tmp_path: Path):
    extract(make_checkpoint("t5gemma2", tmp_path / "checkpoint"), tmp_path / "model", dense=(24,))
    lines: list[str] = []
    exact = {"tolerance": 2.0} if store_weights == "int8" else {}  # random weights lie on no grid
    export(tmp_path / "model", quantize="qint8", store_weights=store_weights, log=lines.append, **exact)  # type: ignore[arg-type]
    folder = ModelFolder.open(tmp_path / "model")
    manifest = Manifest.read(folder)
    entry = manifest.graphs["qint8"]
    assert entry.int8 is not None
    assert any(entry.int8.scheme in line for line in lines)
    assert sorted(file.name for file in folder.export_folder.iterdir()) == sorted(
        {"export.json"} | {name for graph in manifest.graphs.values() for name in graph.sha256}
    )
    shared = set(entry.sha256) & set(manifest.graphs["fp32"].sha256)
    assert shared == ({"model.onnx.data"} if store_weights == "int8" else set())
    near = entry.mean_cosine >= INT8_MEAN and entry.min_cosine >= INT8_WORST
    assert choose_variant(manifest, "cpu", FAST).variant == ("qint8" if near else "fp32")
    assert choose_variant(manifest, "cpu", SLOW).variant == "fp32"
    assert choose_variant(manifest, "cuda", FAST).variant == "fp32"
    assert OnnxEncoder(tmp_path / "model", variant="auto").variant in ("fp32", "qint8")
    with pytest.raises(InputError, match="no variant 'fast'"):
        OnnxEncoder(tmp_path / "model", variant="fast")


def test_a_model_without_large_matrices_has_the_variant_too(tmp_path: Path):
    sizes = {"d_model": 16, "d_ff": 16, "d_kv": 4, "num_heads": 4}
    extract(make_checkpoint("t5", tmp_path / "checkpoint", config=sizes), tmp_path / "model")
    entry = export(tmp_path / "model", quantize="qint8").manifest.graphs["qint8"]
    assert entry.int8 is not None
    assert entry.int8.otherwise == ()
    assert entry.mean_cosine > 0.99
