"""Nodes and constants put into a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray


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
    insert_nodes(graph, [node], after=after)
    return result


def insert_nodes(graph: ir.Graph, nodes: Sequence[ir.Node], *, after: ir.Node | None) -> None:
    """Put nodes into a graph in their order, behind a node or, where that is None, before all else."""
    if after is None:
        graph.insert_before(next(iter(graph)), nodes)
    else:
        graph.insert_after(after, nodes)


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any] | Any) -> ir.Value:
    """A new initializer; where the name is taken, one like it."""
    while name in graph.initializers:
        name += "+"
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
