"""Products with constant matrices: what an int8 graph computes in integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from encoder_tools.onnx_export.graph.int8_weights import weight_uses


class Product(NamedTuple):
    """A MatMul or Gemm of activations with a weight matrix.

    :ivar node: the node.
    :ivar transposed: whether the matrix is stored as (outputs, inputs).
    :ivar adding: the node that adds a constant vector to each row, an Add or the Gemm itself, and which input that is.
    """

    node: ir.Node
    transposed: bool
    adding: tuple[ir.Node, int] | None

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.node.name or self.node.outputs[0].name or ""

    @property
    def bias(self) -> ir.Value | None:
        """What is added to each row."""
        return None if self.adding is None else self.adding[0].inputs[self.adding[1]]

    def matrix(self) -> NDArray[np.float32]:
        """float32 of shape (inputs, outputs); a view of what the graph holds."""
        weight = self.node.inputs[1]
        assert weight is not None  # noqa: S101 - it was found there
        assert weight.const_value is not None  # noqa: S101
        array: NDArray[np.float32] = weight.const_value.numpy()
        return array.T if self.transposed else array


class Group(NamedTuple):
    """Products of one tensor, such as those for queries, keys and values; it is quantized once for all of them.

    :ivar tensor: the activations, of shape (..., inputs).
    """

    tensor: ir.Value
    products: Sequence[Product]


def find_groups(graph: ir.Graph) -> list[Group]:
    """All products with large float32 matrices, by the tensor that they take."""
    groups: dict[ir.Value, list[Product]] = {}
    for use in weight_uses(graph):
        node, tensor = use.node, use.node.inputs[0]
        if node.op_type == "Gather" or tensor is None or use.position != 1 or not _is_plain(node):
            continue
        groups.setdefault(tensor, []).append(Product(node, use.axis == 0, _adding(node)))
    return [Group(tensor, products) for tensor, products in groups.items()]


def _is_plain(node: ir.Node) -> bool:
    if node.op_type == "MatMul":
        return True
    numbers = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    return all(node.attributes[name].value == usual for name, usual in numbers.items() if name in node.attributes)


def _adding(node: ir.Node) -> tuple[ir.Node, int] | None:
    """Where a constant vector is added to a product, if nothing else takes the product."""
    shape = node.outputs[0].shape
    width = None if shape is None else shape[-1]
    if node.op_type == "Gemm":
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return None if bias is None else (node, 2)
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None
    adding = uses[0].node
    if adding.op_type != "Add":
        return None
    position = 1 - uses[0].idx
    other = adding.inputs[position]
    if other is None or not other.is_initializer() or other.shape is None:
        return None
    return (adding, position) if list(other.shape) == [width] else None
