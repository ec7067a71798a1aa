"""Weights stored in 16 bits, computed in fp32: half the file, and for a model that was saved in 16 bits the same.

Matrices are restored by a Cast, which ONNX Runtime folds once when it loads the graph; word tables are restored after
the lookup, row by row, and stay small in memory too.
"""

from __future__ import annotations

import onnx_ir as ir

from encoder_tools.onnx_export.graph.insertions import insert_cast
from encoder_tools.onnx_export.graph.int8_weights import drop_unused_weights, weight_uses
from encoder_tools.onnx_export.half.conversion import HALF_TYPES, half_constant

_FLOAT = ir.DataType.FLOAT


def store_weights_as_half(model: ir.Model, name: str) -> int:
    """Rewrite a graph in place so that its large matrices are stored in 16 bits.

    :param name: "fp16" or "bf16".
    :return: how many matrices were rewritten.
    """
    half, graph = HALF_TYPES[name], model.graph
    stored: dict[ir.Value, ir.Value] = {}
    restored: dict[ir.Value, ir.Value] = {}
    for use in weight_uses(graph):
        weight, node = use.weight, use.node
        if weight not in stored:
            stored[weight] = half_constant(weight, half)
            graph.register_initializer(stored[weight])
        if node.op_type == "Gather":
            node.replace_input_with(use.position, stored[weight])
            rows, uses = node.outputs[0], list(node.outputs[0].uses())
            rows.type = ir.TensorType(half.dtype)
            cast = insert_cast(graph, rows, _FLOAT, f"{rows.name}.fp32", after=node)
            for other in uses:
                other.node.replace_input_with(other.idx, cast)
        else:
            if weight not in restored:
                restored[weight] = insert_cast(graph, stored[weight], _FLOAT, f"{weight.name}.fp32", after=None)
            node.replace_input_with(use.position, restored[weight])
    drop_unused_weights(graph)
    return len(stored)
