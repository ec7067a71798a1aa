"""A float32 graph rewritten so that its products are computed in int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from encoder_tools.model.int8_grid import STEPS, to_grid
from encoder_tools.onnx_export.graph.insertions import add_constant, insert, insert_nodes
from encoder_tools.onnx_export.graph.int8_weights import drop_unused_weights, store_weights_as_int8
from encoder_tools.onnx_export.int8.folding import fold_factors
from encoder_tools.onnx_export.int8.products import Product, find_groups
from encoder_tools.onnx_export.int8.smoothing import Smoothing

Treatment: TypeAlias = Literal["tensor", "row", "float32"]
"""How a tensor is quantized before its products: with one scale, with a scale for each row, or not at all."""

_DOMAIN = "com.microsoft"
_WORTH_A_NODE = 2.0  # by how much smoothing must lower an error if it takes a multiplication when the graph runs
_ZERO_POINT = 128
_LEAST = 1e-12  # largest number of a row that is taken as zero


class Smoothed(NamedTuple):
    """A tensor after smoothing.

    :ivar name: of the tensor before.
    :ivar tensor: what the products take now.
    :ivar products: with the matrices that go with it.
    """

    name: str
    tensor: ir.Value
    products: Sequence[Product]


def to_int8(model: ir.Model, smoothings: Mapping[str, Smoothing], treatments: Mapping[str, Treatment]) -> None:
    """Rewrite a graph in place.

    Word tables are stored as int8 with a scale per row. A product takes uint8 activations, quantized when it runs,
    and int8 weights with one scale per output channel, over the full range.

    :param smoothings: by the tensor's name; tensors without one are left as they are.
    :param treatments: by the tensor's name; "tensor" where nothing is said.
    """
    graph = model.graph
    for name, tensor, products in smooth_all(graph, smoothings):
        treatment = treatments.get(name, "tensor")
        if treatment == "tensor":
            _by_tensor(graph, tensor, products)
        elif treatment == "row":
            _by_row(graph, tensor, products)
    store_weights_as_int8(model, tables_only=True)
    drop_unused_weights(graph)
    model.opset_imports[_DOMAIN] = 1


def smooth_all(graph: ir.Graph, smoothings: Mapping[str, Smoothing]) -> list[Smoothed]:
    """Smooth the tensors of a float32 graph in place; it computes the same."""
    result = []
    for group in find_groups(graph):
        name = group.tensor.name or ""
        smoothing = smoothings.get(name)
        tensor = group.tensor
        if smoothing is not None and smoothing.divisors is not None:
            tensor = _smooth(graph, tensor, group.products, smoothing)
        result.append(Smoothed(name, tensor, group.products))
    return result


def _smooth(graph: ir.Graph, tensor: ir.Value, products: Sequence[Product], smoothing: Smoothing) -> ir.Value:
    """Divide the channels of a tensor, by its constants or else by a node, and multiply the rows of the matrices."""
    assert smoothing.divisors is not None  # noqa: S101 - asked before
    divisors, factors = smoothing.divisors, (1 / smoothing.divisors).astype(np.float32)
    smoothed = tensor
    if not fold_factors(tensor, factors, [product.node for product in products]):
        if smoothing.gain < _WORTH_A_NODE:
            return tensor
        node = ir.node("Mul", [tensor, add_constant(graph, f"{tensor.name}.smoothing", factors)])
        name = f"{tensor.name}.smoothed"
        smoothed = insert(graph, node, ir.DataType.FLOAT, name, tensor.shape, after=tensor.producer())
    for product in products:
        matrix = product.matrix() * divisors[:, None]
        stored = np.ascontiguousarray(matrix.T if product.transposed else matrix)
        product.node.replace_input_with(0, smoothed)
        product.node.replace_input_with(1, add_constant(graph, f"{product.name}.smoothed", stored))
    return smoothed


def _by_tensor(graph: ir.Graph, tensor: ir.Value, products: Sequence[Product]) -> None:
    """One scale for all rows of a batch; the bias is added while the integers are converted back."""
    quantize = ir.node("DynamicQuantizeLinear", [tensor], num_outputs=3)
    _name_outputs(quantize, tensor)
    insert_nodes(graph, [quantize], after=tensor.producer())
    levels, scale, zero = quantize.outputs
    for product in products:
        last = product.node if product.adding is None else product.adding[0]
        _replace(graph, product, last, _integer_product(graph, product, levels, scale, zero, product.bias), [])


def _by_row(graph: ir.Graph, tensor: ir.Value, products: Sequence[Product]) -> None:
    """A scale for each row: rows are divided by their largest number, and the products multiplied by it."""
    axis = _shared(graph, "int8.axis", np.array([-1], dtype=np.int64))
    least, step, zero = (
        _shared(graph, name, value)
        for name, value in (
            ("int8.least", np.float32(_LEAST)),
            ("int8.step", np.float32(1 / STEPS)),
            ("int8.middle", np.uint8(_ZERO_POINT)),
        )
    )
    size = ir.node("Abs", [tensor])
    largest = ir.node("ReduceMax", [size.outputs[0], axis], {"keepdims": 1})
    bounded = ir.node("Max", [largest.outputs[0], least])
    unit = ir.node("Div", [tensor, bounded.outputs[0]])
    quantize = ir.node("QuantizeLinear", [unit.outputs[0], step, zero])
    insert_nodes(graph, [size, largest, bounded, unit, quantize], after=tensor.producer())
    for product in products:
        node = _integer_product(graph, product, quantize.outputs[0], step, zero, None)
        rescale = ir.node("Mul", [node.outputs[0], bounded.outputs[0]])
        more = [rescale]
        if product.adding is not None and product.adding[0] is product.node:  # a Gemm adds its bias itself
            more.append(ir.node("Add", [rescale.outputs[0], product.bias]))
        _replace(graph, product, product.node, node, more)


def _integer_product(
    graph: ir.Graph, product: Product, levels: ir.Value, scale: ir.Value, zero: ir.Value, bias: ir.Value | None
) -> ir.Node:
    integers, scales = to_grid(product.matrix(), axis=1)
    weight = add_constant(graph, f"{product.name}.int8", integers)
    weight_scale = add_constant(graph, f"{product.name}.scale", scales.reshape(-1))
    inputs: list[ir.Value | None] = [levels, weight, scale, weight_scale, zero, None]
    return ir.node(
        "MatMulIntegerToFloat",
        inputs if bias is None else [*inputs, bias],
        domain=_DOMAIN,
        name=product.name,
    )


def _replace(graph: ir.Graph, product: Product, last: ir.Node, node: ir.Node, more: Sequence[ir.Node]) -> None:
    """Put ``node`` and what follows it in place of a product up to its node ``last``."""
    old = last.outputs[0]
    new = (more[-1] if more else node).outputs[0]
    new.type, new.shape = old.type, old.shape
    graph.insert_before(last, [node, *more])
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    name = old.name
    graph.remove([last] if last is product.node else [last, product.node], safe=True)
    new.name = name


def _name_outputs(quantize: ir.Node, tensor: ir.Value) -> None:
    for output, part in zip(quantize.outputs, ("levels", "level", "zero"), strict=True):
        output.name = f"{tensor.name}.{part}"


def _shared(graph: ir.Graph, name: str, array: NDArray[Any] | np.generic) -> ir.Value:
    """A constant that all quantized rows take."""
    return graph.initializers[name] if name in graph.initializers else add_constant(graph, name, array)
