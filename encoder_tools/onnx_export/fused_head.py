"""A head fused into a model's graph: texts' tokens in, vectors and probabilities out, in one call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from encoder_tools.errors import ParityError
from encoder_tools.io.files import write_bytes, write_json
from encoder_tools.io.staging import staged_folder
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.onnx_export.graph.graph_file import GRAPH_NAME, open_graph, save_graph
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.runtime.manifest import EXACT

_VECTORS = "sentence_embedding"
_PROBABILITIES = "probabilities"
_TOLERANCE = 1e-4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HeadGraph:
    """What to put on the vectors.

    :ivar layers: weights (n_out, n_in) and bias (n_out,) of each linear layer, ReLU between them.
    :ivar factor: of the scores, before ``bias`` (n_labels,), if there is one, is added.
    :ivar link: what makes probabilities of them.
    :ivar labels: one name per probability.
    """

    layers: Sequence[tuple[Floats, Floats]]
    factor: float
    bias: Floats | None
    link: Literal["softmax", "sigmoid"]
    labels: Sequence[str | int | float]


def export_with_head(
    encoder: OnnxEncoder, head: HeadGraph, expected: Any, out: Path, *, overwrite: bool = False
) -> float:
    """Write ``out/model.onnx`` with outputs "sentence_embedding" and "probabilities", its tokenizer, and the labels.

    :param encoder: of the variant "fp32".
    :param expected: gives probabilities (n, n_labels) of vectors (n, dim), to compare with.
    :return: the worst difference between probabilities, over a battery of sentences.
    :raises ParityError: if that is above 1e-4; nothing is written then.
    :raises SaveError: if writing fails; what stood there before is untouched.
    """
    graph = encoder.manifest.graph_path(encoder.folder, EXACT, verify=True)
    model = open_graph(graph)
    append_head(model, head)
    texts = list(real_sentences())
    with staged_folder(out, overwrite=overwrite) as staged:
        save_graph(model, staged / GRAPH_NAME)
        write_bytes(staged / "tokenizer.json", encoder.tokenizer_file.read_bytes())
        write_json(staged / "labels.json", {"labels": list(head.labels), "fingerprint": encoder.fingerprint})
        outputs = _run(staged / GRAPH_NAME, encoder, texts)
        worst = float(np.abs(outputs[_PROBABILITIES] - expected(outputs[_VECTORS])).max())
        vectors = float(np.abs(outputs[_VECTORS] - encoder.encode(texts, dim=outputs[_VECTORS].shape[1])).max())
        if not max(worst, vectors) <= _TOLERANCE:
            raise ParityError(f"The fused graph's probabilities differ by {worst:.2g}, its vectors by {vectors:.2g}.")
    return worst


def append_head(model: ir.Model, head: HeadGraph) -> None:
    """Add the nodes of a head to a graph that gives "sentence_embedding"."""
    add = _Appending(model.graph)
    value = next(output for output in model.graph.outputs if output.name == _VECTORS)
    for number, (weights, bias) in enumerate(head.layers):
        if number:
            value = add.node("Relu", value)
        value = add.node("Gemm", value, add.constant(weights), add.constant(bias), transB=1)
    value = add.node("Mul", value, add.constant(np.float32(head.factor)))
    if head.bias is not None:
        value = add.node("Add", value, add.constant(head.bias))
    kind, settings = ("Softmax", {"axis": -1}) if head.link == "softmax" else ("Sigmoid", {})
    value = add.node(kind, value, **settings)
    value.name = _PROBABILITIES
    vectors = model.graph.outputs[0].shape
    value.shape = ir.Shape([vectors[0] if vectors else "batch", len(head.labels)])
    value.type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.outputs.append(value)
    model.metadata_props["labels"] = json.dumps(list(head.labels), ensure_ascii=False)


class _Appending:
    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"head_{self._count}"

    def constant(self, value: Any) -> ir.Value:
        name = self._name()
        made = ir.val(name, const_value=ir.tensor(np.asarray(value, dtype=np.float32), name=name))
        self._graph.register_initializer(made)
        return made

    def node(self, kind: str, *inputs: ir.Value, **settings: Any) -> ir.Value:
        made = ir.node(kind, list(inputs), settings or None)
        made.outputs[0].name = self._name()
        self._graph.append(made)
        return made.outputs[0]


def _run(graph: Path, encoder: OnnxEncoder, texts: Sequence[str]) -> Mapping[str, Floats]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    rows = []
    for ids in encoder.tokenize(texts):
        feed = {"input_ids": np.array([ids], dtype=np.int64), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
        rows.append(session.run([_VECTORS, _PROBABILITIES], feed))
    return {
        name: np.concatenate([row[output] for row in rows]) for output, name in enumerate((_VECTORS, _PROBABILITIES))
    }
