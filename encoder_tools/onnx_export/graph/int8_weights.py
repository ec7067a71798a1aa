"""Weights stored as int8, computed in fp32: a quarter of the file, the same arithmetic.

Each row of a weight matrix (each output channel, each word vector) is stored as int8 with one fp32 scale. Matrices of
the body are restored by Cast and Mul, which ONNX Runtime folds once when it loads the graph; word tables are restored
after the lookup, row by row, and so stay small in memory too. A model whose weights already lie on this grid (see
``encoder_tools.distillation.student.weight_grid``) loses nothing.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from encoder_tools.model.int8_grid import to_grid

_SMALLEST = 1024  # smaller tensors are not worth two more nodes


def store_weights_as_int8(model: onnx.ModelProto, *, tables_only: bool = False) -> int:
    """Rewrite a graph in place so that its large matrices are stored as int8.

    :param tables_only: rewrite only what is looked up (word and position tables), not what is multiplied.
    :return: how many matrices were rewritten.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    restored: set[str] = set()
    for node in list(graph.node):
        slot = _weight_place(node, tensors)
        if slot is None:
            continue
        position, axis = slot
        name = node.input[position]
        if node.op_type == "Gather":
            _restore_after_gather(graph, node, tensors[name])
        elif not tables_only:
            if name not in restored:
                _restore_matrix(graph, tensors[name], axis)
                restored.add(name)
            node.input[position] = f"{name}.fp32"
    return _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> int:
    used = {name for node in graph.node for name in node.input}
    stale = [tensor for tensor in graph.initializer if tensor.name not in used]
    for tensor in stale:
        graph.initializer.remove(tensor)
    return len(stale)


def _weight_place(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> tuple[int, int] | None:
    """Which input of a node is a large weight matrix, and along which axis its output channels lie."""
    if node.op_type == "Gather" and _is_large(tensors.get(node.input[0])):
        return 0, 0
    if node.op_type == "MatMul" and _is_large(tensors.get(node.input[1])):
        return 1, 1
    if node.op_type == "Gemm" and _is_large(tensors.get(node.input[1])):
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 1, 0 if transposed else 1
    return None


def _is_large(tensor: onnx.TensorProto | None) -> bool:
    return (
        tensor is not None
        and tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and tensor.dims[0] * tensor.dims[1] >= _SMALLEST
    )


def _store(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int) -> tuple[str, str]:
    integers, scale = to_grid(numpy_helper.to_array(tensor), axis)
    names = f"{tensor.name}.int8", f"{tensor.name}.scale"
    if names[0] not in {existing.name for existing in graph.initializer}:
        graph.initializer.append(numpy_helper.from_array(integers, names[0]))
        graph.initializer.append(numpy_helper.from_array(scale, names[1]))
    return names


def _restore_matrix(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int) -> None:
    integers, scale = _store(graph, tensor, axis)
    cast = helper.make_node("Cast", [integers], [f"{tensor.name}.cast"], to=TensorProto.FLOAT)
    mul = helper.make_node("Mul", [f"{tensor.name}.cast", scale], [f"{tensor.name}.fp32"])
    for position, node in enumerate([cast, mul]):
        graph.node.insert(position, node)


def _restore_after_gather(graph: onnx.GraphProto, node: onnx.NodeProto, tensor: onnx.TensorProto) -> None:
    """Look up integers and scales, then multiply: only the rows in use are ever fp32."""
    integers, scale = _store(graph, tensor, 0)
    output, ids = node.output[0], node.input[1]
    new = [
        helper.make_node("Gather", [integers, ids], [f"{output}.int8"], axis=0),
        helper.make_node("Cast", [f"{output}.int8"], [f"{output}.cast"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scale, ids], [f"{output}.scale"], axis=0),
        helper.make_node("Mul", [f"{output}.cast", f"{output}.scale"], [output]),
    ]
    position = list(graph.node).index(node)
    graph.node.remove(node)
    for step, made in enumerate(new):
        graph.node.insert(position + step, made)
