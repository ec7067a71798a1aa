"""Half precision on a CPU: every result rounded to 16 bits, every product added up in float32, as GPUs do it.

ONNX Runtime has no kernels of 16 bits for most operators on a CPU; it computes such a graph in float32 and does not
round between its nodes, so that an overflow would not be seen. Here the rounding is written into the graph.
"""

from __future__ import annotations

import onnx_ir as ir

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
                        widened[value] = _insert_cast(graph, value, next(iter(graph)), _FLOAT, before=True)
                    node.replace_input_with(position, widened[value])
        for value in node.outputs:
            if value.dtype == dtype:
                _round_after(graph, node, value, dtype)
    return copy


def _round_after(graph: ir.Graph, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> None:
    uses = list(value.uses())
    if node.op_type in _KEPT:
        rounded = value
        last = node
    else:
        value.type = ir.TensorType(_FLOAT)
        rounded = _insert_cast(graph, value, node, dtype)
        last = rounded.producer() or node
    wide = _insert_cast(graph, rounded, last, _FLOAT)
    for use in uses:
        use.node.replace_input_with(use.idx, wide)


def _insert_cast(
    graph: ir.Graph, value: ir.Value, beside: ir.Node, dtype: ir.DataType, *, before: bool = False
) -> ir.Value:
    cast = ir.node("Cast", [value], {"to": dtype})
    cast.outputs[0].name = f"{value.name}.as_{dtype.name.lower()}"
    cast.outputs[0].type = ir.TensorType(dtype)
    (graph.insert_before if before else graph.insert_after)(beside, cast)
    return cast.outputs[0]
