"""Factors of channels taken into the constants that make a tensor, so that smoothing costs nothing when it runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from encoder_tools.onnx_export.graph.insertions import add_constant

_NORMS = ("LayerNormalization", "RMSNormalization")
_HEADS_BEFORE_TOKENS = [0, 2, 1, 3]
_VALUES = (("Reshape", 0), ("Transpose", 0), ("Attention", 2), ("Transpose", 0), ("Reshape", 0))
"""From heads side by side back to what makes the values of attention: operators, and which input to follow."""


class _Edit(NamedTuple):
    """A constant to multiply: an input of a node, and the factors in a shape that broadcasts against it."""

    node: ir.Node
    position: int
    factors: NDArray[np.float32]


def fold_factors(tensor: ir.Value, factors: NDArray[np.float32], users: Collection[ir.Node]) -> bool:
    """Multiply the channels of a tensor by changing the constants that it is made of.

    :param tensor: of shape (..., channels).
    :param factors: positive, float32 of shape (channels,).
    :param users: nodes that expect the change; if others take the tensor too, nothing is done.
    :return: whether it was done.
    """
    edits = _edits(tensor, factors, users)
    for edit in edits or ():
        _multiply(edit)
    return edits is not None


def _edits(tensor: ir.Value, factors: NDArray[np.float32], users: Collection[ir.Node]) -> list[_Edit] | None:
    node = tensor.producer()
    others = [use.node for use in tensor.uses() if use.node not in users]
    if node is None or others or tensor.is_graph_output() or not _has_channels(tensor, len(factors)):
        return None
    if node.op_type in _NORMS:
        return _constants(node, range(1, len(node.inputs)), factors)
    if node.op_type == "MatMul":
        return _constants(node, [1], factors)
    if node.op_type == "Gemm":
        return _of_gemm(node, factors)
    if node.op_type == "Relu":
        return _from(node, 0, factors)
    if node.op_type == "Add":
        return _of_sum(node, factors)
    if node.op_type == "Mul":
        return _of_product(node, factors)
    if node.op_type == "Reshape":
        return _of_attention(node, factors)
    return None


def _from(node: ir.Node, position: int, factors: NDArray[np.float32]) -> list[_Edit] | None:
    tensor = node.inputs[position]
    return None if tensor is None else _edits(tensor, factors, [node])


def _constants(node: ir.Node, positions: Collection[int], factors: NDArray[np.float32]) -> list[_Edit] | None:
    """Edits of constants whose last axis is the channels."""
    edits = []
    for position in positions:
        value = node.inputs[position]
        if value is None:
            continue
        if not _is_constant(value) or not _has_channels(value, len(factors)):
            return None
        edits.append(_Edit(node, position, factors))
    return edits


def _of_gemm(node: ir.Node, factors: NDArray[np.float32]) -> list[_Edit] | None:
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int()
    weight = node.inputs[1]
    if weight is None or not _is_constant(weight):
        return None
    bias = _constants(node, [2] if len(node.inputs) > 2 else [], factors)
    return None if bias is None else [_Edit(node, 1, factors[:, None] if transposed else factors), *bias]


def _of_sum(node: ir.Node, factors: NDArray[np.float32]) -> list[_Edit] | None:
    """A product and its bias."""
    for bias in (0, 1):
        added = node.inputs[bias]
        if added is not None and _is_constant(added):
            own, rest = _constants(node, [bias], factors), _from(node, 1 - bias, factors)
            return None if own is None or rest is None else [*own, *rest]
    return None


def _of_product(node: ir.Node, factors: NDArray[np.float32]) -> list[_Edit] | None:
    """Either side, such as the linear one of a gated layer."""
    for position in (0, 1):
        side = node.inputs[position]
        if side is None:
            return None
        edits = _constants(node, [position], factors) if _is_constant(side) else _from(node, position, factors)
        if edits is not None:
            return edits
    return None


def _of_attention(node: ir.Node, factors: NDArray[np.float32]) -> list[_Edit] | None:
    """Heads side by side: attention is linear in its values, so the factors go to the layer that makes these.

    Where several heads share their values (grouped queries), the values are repeated first, and nothing is done.
    """
    chain = _chain(node)
    if chain is None:
        return None
    _, merging, attention, parting, split = chain
    if any(list(part.attributes["perm"].as_ints()) != _HEADS_BEFORE_TOKENS for part in (merging, parting)):
        return None
    heads, own_heads = (part.outputs[0].shape for part in (merging, split))
    if heads is None or own_heads is None or any(output.uses() for output in attention.outputs[1:]):
        return None
    if list(heads[2:]) != list(own_heads[2:]) or not all(isinstance(size, int) for size in heads[2:]):
        return None
    return _from(split, 0, factors)


def _chain(last: ir.Node) -> list[ir.Node] | None:
    """The nodes of :data:`_VALUES` from the last one backwards, if each alone takes what the one before makes."""
    chain: list[ir.Node] = []
    node: ir.Node | None = last
    for op_type, position in _VALUES:
        if node is None or node.op_type != op_type or (chain and len(node.outputs[0].uses()) != 1):
            return None
        chain.append(node)
        before = node.inputs[position]
        node = None if before is None else before.producer()
    return chain


def _has_channels(value: ir.Value, count: int) -> bool:
    return value.shape is not None and len(value.shape) > 0 and value.shape[-1] == count


def _is_constant(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT


def _multiply(edit: _Edit) -> None:
    """Give the node a constant of its own: others may share the one that it has."""
    old, graph = edit.node.inputs[edit.position], edit.node.graph
    assert old is not None  # noqa: S101 - it was found there
    assert old.const_value is not None  # noqa: S101
    assert isinstance(graph, ir.Graph)  # noqa: S101
    array = (old.const_value.numpy() * edit.factors).astype(np.float32)
    edit.node.replace_input_with(edit.position, add_constant(graph, f"{old.name}.folded", array))
