"""How far a model's vectors move when one tensor alone is quantized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from encoder_tools.onnx_export.graph.graph_file import open_graph, save_graph
from encoder_tools.onnx_export.graph.insertions import add_constant, insert_nodes
from encoder_tools.onnx_export.half.ranges import Feed
from encoder_tools.onnx_export.int8.rewriting import smooth_all
from encoder_tools.onnx_export.int8.smoothing import Smoothing
from encoder_tools.runtime.session import open_session
from encoder_tools.vectors import unit_rows

_GATES = "quantized"


def sensitivities(graph: Path, smoothings: Mapping[str, Smoothing], feeds: Sequence[Feed]) -> dict[str, float]:
    """One minus the mean cosine of vectors to the exact ones, by the tensor that is rounded to uint8.

    One graph holds a gate before each product; it is run once for each of them.

    :param graph: ONNX file of the float32 graph; a changed copy is written beside it and removed.
    :param feeds: batches to run.
    """
    model = open_graph(graph)
    names = _add_gates(model, smoothings)
    changed = graph.with_name(f"{graph.stem}.gates.onnx")
    written: list[Path] = []
    try:
        written = save_graph(model, changed, share=True)
        session: Any = open_session(changed, "cpu", None)
        exact = _vectors(session, feeds, np.zeros(len(names), dtype=np.float32))
        result = {}
        for number, name in enumerate(names):
            gates = np.zeros(len(names), dtype=np.float32)
            gates[number] = 1
            result[name] = float(1 - (_vectors(session, feeds, gates) * exact).sum(axis=1).mean())
    finally:
        for file in (changed, *written):
            file.unlink(missing_ok=True)
    return result


def _vectors(session: Any, feeds: Sequence[Feed], gates: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = [session.run(["sentence_embedding"], {**feed, _GATES: gates})[0] for feed in feeds]
    return unit_rows(np.concatenate(rows)).astype(np.float64)


def _add_gates(model: ir.Model, smoothings: Mapping[str, Smoothing]) -> list[str]:
    graph = model.graph
    groups = smooth_all(graph, smoothings)
    gates = ir.val(_GATES, dtype=ir.DataType.FLOAT, shape=ir.Shape([len(groups)]))
    graph.inputs.append(gates)
    for number, (_, tensor, products) in enumerate(groups):
        index = add_constant(graph, f"{_GATES}.{number}", np.int64(number))
        gate = ir.node("Gather", [gates, index])
        quantize = ir.node("DynamicQuantizeLinear", [tensor], num_outputs=3)
        restore = ir.node("DequantizeLinear", list(quantize.outputs))
        error = ir.node("Sub", [restore.outputs[0], tensor])
        let_in = ir.node("Mul", [error.outputs[0], gate.outputs[0]])
        add = ir.node("Add", [tensor, let_in.outputs[0]])
        insert_nodes(graph, [gate, quantize, restore, error, let_in, add], after=tensor.producer())
        for product in products:
            product.node.replace_input_with(0, add.outputs[0])
    return [name for name, _, _ in groups]
