"""Casts put into a graph."""

from __future__ import annotations

import onnx_ir as ir


def insert_cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str, *, after: ir.Node | None) -> ir.Value:
    """Convert a value to another type.

    :param name: of the result.
    :param after: the node behind which it is done; None for an initializer, which is converted before all else.
    :return: the result; its uses are the caller's to set.
    """
    return insert(graph, ir.node("Cast", [value], {"to": dtype}), dtype, name, value.shape, after=after)


def insert(
    graph: ir.Graph, node: ir.Node, dtype: ir.DataType, name: str, shape: ir.Shape | None, *, after: ir.Node | None
) -> ir.Value:
    """Put a node of one result into a graph, and say what its result is; arguments as :func:`insert_cast`."""
    result = node.outputs[0]
    result.name, result.type, result.shape = name, ir.TensorType(dtype), shape
    if after is None:
        graph.insert_before(next(iter(graph)), node)
    else:
        graph.insert_after(after, node)
    return result
