"""The range of every tensor of a graph, measured while it encodes real texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from encoder_tools.onnx_export.graph.graph_file import open_graph
from encoder_tools.onnx_export.graph.insertions import add_constant
from encoder_tools.runtime.session import open_session

MASKED = -1e9
"""What is below is a mask, not a number: scores of tokens that must not be seen."""

Feed = Mapping[str, NDArray[np.int64]]


class Range(NamedTuple):
    """How large the numbers of a tensor become.

    :ivar peak: largest absolute value, masks left out.
    :ivar norm: largest Euclidean length along the last axis; measured for queries and keys, else 0.
    """

    peak: float
    norm: float = 0.0


def measure_ranges(graph: Path, feeds: Iterable[Feed]) -> dict[str, Range]:
    """Run a float32 graph with every tensor's range as a further output.

    :param graph: ONNX file; a changed copy is written beside it and removed.
    :param feeds: batches to run.
    :return: by the tensor's name.
    """
    model = open_graph(graph)
    measured = _add_outputs(model)
    changed = graph.with_name(f"{graph.stem}.ranges.onnx")
    try:
        ir.save(model, changed)  # weights beside the graph stay there; those inside are written again
        session: Any = open_session(changed, "cpu", None)
        names = [output for _, output, _ in measured]
        peaks = np.zeros(len(names))
        for feed in feeds:
            peaks = np.fmax(peaks, [float(value) for value in session.run(names, dict(feed))])
    finally:
        changed.unlink(missing_ok=True)
    ranges: dict[str, Range] = {}
    for (name, _, kind), peak in zip(measured, peaks, strict=True):
        ranges[name] = ranges.get(name, Range(0.0))._replace(**{kind: float(peak)})
    return ranges


def _add_outputs(model: ir.Model) -> list[tuple[str, str, str]]:
    """Outputs for the range of each float32 tensor: its name, that of the output, and the field of :class:`Range`."""
    graph = model.graph
    constants = {
        name: add_constant(graph, f"ranges.{name}", np.float32(value))
        for name, value in (("masked", MASKED), ("zero", 0.0))
    }
    measured: list[tuple[str, str, str]] = []
    for node in list(graph):
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and value.name:
                measured.append(_add_peak(graph, value, constants))
        if node.op_type == "Attention":
            measured += [_add_norm(graph, value) for value in node.inputs[:2] if value is not None]
    return list(dict.fromkeys(measured))


def _add_peak(graph: ir.Graph, value: ir.Value, constants: Mapping[str, ir.Value]) -> tuple[str, str, str]:
    below = ir.node("Less", [value, constants["masked"]])
    seen = ir.node("Where", [below.outputs[0], constants["zero"], value])
    size = ir.node("Abs", [seen.outputs[0]])
    return _add_output(graph, value, [below, seen, size], "peak")


def _add_norm(graph: ir.Graph, value: ir.Value) -> tuple[str, str, str]:
    axis = ir.val(f"{value.name}.axis", const_value=ir.tensor([-1], dtype=ir.DataType.INT64))
    if axis.name not in graph.initializers:
        graph.register_initializer(axis)
    length = ir.node("ReduceL2", [value, graph.initializers[axis.name or ""]])
    return _add_output(graph, value, [length], "norm")


def _add_output(graph: ir.Graph, value: ir.Value, nodes: list[ir.Node], kind: str) -> tuple[str, str, str]:
    name = f"{value.name}.{kind}"
    if all(output.name != name for output in graph.outputs):
        largest = ir.node("ReduceMax", [nodes[-1].outputs[0]], {"keepdims": 0})
        output = largest.outputs[0]
        output.name, output.type, output.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        producer = value.producer()
        if producer is None:
            graph.extend([*nodes, largest])
        else:  # at once: if all were measured at the end, the tensors of all layers would be in memory together
            graph.insert_after(producer, [*nodes, largest])
        graph.outputs.append(output)
    return value.name or "", name, kind


def most_different(graph: Path, other: Path, feed: Feed) -> tuple[str, float]:
    """The layer behind which two graphs of the same tensors begin to differ most, and its relative error.

    :param other: lies in the same folder.
    """
    outputs, models = [], (open_graph(graph), open_graph(other))
    common = [name for name in _products(models[0]) if name in set(_products(models[1]))]
    for path, model in zip((graph, other), models, strict=True):
        values = {value.name: value for node in model.graph for value in node.outputs}
        model.graph.outputs.extend(values[name] for name in common if values[name] not in model.graph.outputs)
        changed = path.with_name(f"{path.stem}.inner.onnx")
        try:
            ir.save(model, changed)
            session: Any = open_session(changed, "cpu", None)
            outputs.append(session.run(common, dict(feed)))
        finally:
            changed.unlink(missing_ok=True)
    errors = [_relative(left, right) for left, right in zip(*outputs, strict=True)]
    growth = np.diff([0.0, *errors])
    worst = int(growth.argmax())
    names = {value.name: node.name for node in models[0].graph for value in node.outputs}
    return str(names[common[worst]] or common[worst]), errors[worst]


def _products(model: ir.Model) -> list[str]:
    return [
        node.outputs[0].name or ""
        for node in model.graph
        if node.op_type in ("MatMul", "Gemm") and node.outputs[0].dtype == ir.DataType.FLOAT
    ]


def _relative(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    difference = float(np.linalg.norm((expected - actual).astype(np.float64)))
    return float(np.nan_to_num(difference / max(float(np.linalg.norm(expected)), 1e-30), nan=np.inf))
