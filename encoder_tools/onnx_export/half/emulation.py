"""Half precision on a CPU: every result rounded to 16 bits, every product added up in float32, as GPUs do it.

ONNX Runtime has no kernels of 16 bits for most operators on a CPU; it computes such a graph in float32 and does not
round between its nodes, so that an overflow would not be seen. Here the rounding is written into the graph.
"""

from __future__ import annotations

import onnx_ir as ir

from encoder_tools.onnx_export.graph.insertions import insert_cast

_FLOAT = ir.DataType.FLOAT
_KEPT = ("Gather", "Cast")  # what only moves numbers works in any precision


def emulated(model: ir.Model, dtype: ir.DataType) -> ir.Model:
    """A copy of a graph in half precision that computes in float32 and rounds every result to ``dtype``."""
    copy = model.clone()
    graph = copy.graph
    widened: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        if node.op_type not in _KEPT:
            for position, value in enumerate(node.inputs):
                if value is not None and value.is_initializer() and value.dtype == dtype:
                    if value not in widened:
                        widened[value] = _cast(graph, value, _FLOAT, after=None)
                    node.replace_input_with(position, widened[value])
        for value in node.outputs:
            if value.dtype == dtype:
                _round_after(graph, node, value, dtype)
    return copy


def _round_after(graph: ir.Graph, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> None:
    uses = list(value.uses())
    rounded = value
    if node.op_type not in _KEPT:
        value.type = ir.TensorType(_FLOAT)
        rounded = _cast(graph, value, dtype, after=node)
    wide = _cast(graph, rounded, _FLOAT, after=rounded.producer())
    for use in uses:
        use.node.replace_input_with(use.idx, wide)


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, *, after: ir.Node | None) -> ir.Value:
    return insert_cast(graph, value, dtype, f"{value.name}.as_{dtype.name.lower()}", after=after)
