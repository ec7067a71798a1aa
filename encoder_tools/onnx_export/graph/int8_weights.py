"""Weights stored as int8, computed in fp32: a quarter of the file, the same arithmetic.

Each row of a weight matrix (each output channel, each word vector) is stored as int8 with one fp32 scale. Matrices of
the body are restored by Cast and Mul, which ONNX Runtime folds once when it loads the graph; word tables are restored
after the lookup, row by row, and so stay small in memory too. A model whose weights already lie on this grid (see
``encoder_tools.distillation.student.weight_grid``) loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from encoder_tools.model.int8_grid import to_grid
from encoder_tools.onnx_export.graph.insertions import add_constant

_SMALLEST = 1024  # numbers; smaller tensors are not worth two more nodes


class WeightUse(NamedTuple):
    """A large weight matrix where a node uses it.

    :ivar node: that looks it up or multiplies with it.
    :ivar position: which input it is.
    :ivar axis: along which its output channels lie; 0 of what is looked up.
    """

    node: ir.Node
    position: int
    axis: int

    @property
    def weight(self) -> ir.Value:
        """The matrix."""
        value = self.node.inputs[self.position]
        assert value is not None  # noqa: S101 - it was found there
        return value


def weight_uses(graph: ir.Graph) -> Iterator[WeightUse]:
    """Every use of a large float32 matrix that is an initializer."""
    for node in list(graph):
        slot = _weight_slot(node)
        if slot is not None and _is_large(node.inputs[slot[0]]):
            yield WeightUse(node, *slot)


def store_weights_as_int8(model: ir.Model, *, tables_only: bool = False) -> int:
    """Rewrite a graph in place so that its large matrices are stored as int8.

    :param tables_only: rewrite only what is looked up (word and position tables), not what is multiplied.
    :return: how many matrices were rewritten.
    """
    graph = model.graph
    stored: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    restored: dict[ir.Value, ir.Value] = {}
    for use in weight_uses(graph):
        looked_up = use.node.op_type == "Gather"
        if tables_only and not looked_up:
            continue
        if use.weight not in stored:
            stored[use.weight] = _store(graph, use.weight, use.axis)
        if looked_up:
            _restore_after_gather(graph, use.node, *stored[use.weight])
        else:
            if use.weight not in restored:
                restored[use.weight] = _restore_matrix(graph, use.weight, *stored[use.weight])
            use.node.replace_input_with(use.position, restored[use.weight])
    drop_unused_weights(graph)
    return len(stored)


def restore_matrices(model: ir.Model) -> int:
    """Make multiplied matrices that are stored as int8 float32 again, in place; they have the same values.

    :return: how many there were.
    """
    graph = model.graph
    count = 0
    for node in list(graph):
        if node.op_type != "Mul" or None in node.inputs:
            continue
        whole, scale = (value for value in node.inputs if value is not None)
        cast = whole.producer()
        if cast is None or cast.op_type != "Cast":
            continue
        integers, factors = (value.const_value if value is not None else None for value in (cast.inputs[0], scale))
        if integers is None or factors is None or integers.dtype != ir.DataType.INT8:
            continue
        result = node.outputs[0]
        matrix = integers.numpy().astype(np.float32) * factors.numpy()
        ir.convenience.replace_all_uses_with(result, add_constant(graph, f"{result.name}.restored", matrix))
        graph.remove([node, cast], safe=True)
        count += 1
    drop_unused_weights(graph)
    return count


def drop_unused_weights(graph: ir.Graph) -> None:
    """Take out initializers that no node uses."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            graph.initializers.pop(name)


def _weight_slot(node: ir.Node) -> tuple[int, int] | None:
    """Which input of a node can be a weight matrix, and along which axis its output channels lie."""
    if node.op_type == "Gather":
        return 0, 0
    if node.op_type == "MatMul":
        return 1, 1
    if node.op_type == "Gemm":
        transposed = "transB" in node.attributes and node.attributes["transB"].as_int()
        return 1, 0 if transposed else 1
    return None


def _is_large(value: ir.Value | None) -> bool:
    tensor = None if value is None else value.const_value
    return (
        value is not None
        and tensor is not None
        and value.is_initializer()
        and tensor.dtype == ir.DataType.FLOAT
        and len(tensor.shape) == 2
        and tensor.size >= _SMALLEST
    )


def _store(graph: ir.Graph, weight: ir.Value, axis: int) -> tuple[ir.Value, ir.Value]:
    assert weight.const_value is not None  # noqa: S101 - an initializer
    integers, scale = to_grid(weight.const_value.numpy(), axis)
    return add_constant(graph, f"{weight.name}.int8", integers), add_constant(graph, f"{weight.name}.scale", scale)


def _restore_matrix(graph: ir.Graph, weight: ir.Value, integers: ir.Value, scale: ir.Value) -> ir.Value:
    cast = ir.node("Cast", [integers], {"to": ir.DataType.FLOAT})
    multiply = ir.node("Mul", [cast.outputs[0], scale])
    multiply.outputs[0].name = f"{weight.name}.fp32"
    first = next(iter(graph))
    graph.insert_before(first, [cast, multiply])
    return multiply.outputs[0]


def _restore_after_gather(graph: ir.Graph, node: ir.Node, integers: ir.Value, scale: ir.Value) -> None:
    """Look up integers and scales, then multiply: only the rows in use are ever fp32."""
    ids, output = node.inputs[1], node.outputs[0]
    rows = ir.node("Gather", [integers, ids], {"axis": 0})
    cast = ir.node("Cast", [rows.outputs[0]], {"to": ir.DataType.FLOAT})
    scales = ir.node("Gather", [scale, ids], {"axis": 0})
    multiply = ir.node("Mul", [cast.outputs[0], scales.outputs[0]])
    graph.insert_before(node, [rows, cast, scales, multiply])
    ir.convenience.replace_all_uses_with(output, multiply.outputs[0])
    graph.remove(node, safe=True)
