"""A graph's file: written with weights inside or beside it, and read with its weights mapped.

One protobuf ends at 2 GiB, and ONNX Runtime copies what lies inside it. So the weights of larger graphs are written to
a file beside the graph as they are read, a few megabytes at a time, and whoever opens the graph maps that file: word
tables are then never in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from encoder_tools.machine.room import give_back_pages

GRAPH_NAME = "model.onnx"
MOST_INSIDE = 250_000_000
"""Bytes of weights up to which a graph is a single file."""
_LEAST_BESIDE = 1024  # bytes; shapes and axes stay in the graph, where ONNX Runtime reads them while it loads
_ALIGNMENT = 4096  # bytes; then a tensor can be mapped alone
_BLOCK = 1 << 24


def variant_name(variant: str) -> str:
    """File name of a variant's graph, other than the exact one's."""
    return f"model_{variant}.onnx"


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, without reading them."""
    return sum(int(tensor.nbytes) for tensor in _tensors(model))


def save_graph(model: ir.Model, path: Path, *, share: bool = False, beside: bool = False) -> list[Path]:
    """Write a graph; weights above :data:`MOST_INSIDE` go to a file beside it, and ``model`` then refers to that file.

    :param share: leave weights where they are that lie in a file of the same folder already.
    :param beside: write weights to a file beside it whatever their size, so that other graphs can share them.
    :return: the files written.
    :raises OSError: if the disk is full.
    """
    if weight_bytes(model) <= MOST_INSIDE and not beside:
        ir.save(model, path)
        return [path]
    data = path.with_name(path.name + ".data")
    _write_beside(model, data, share)
    ir.save(model, path)
    return [path, data]


def open_graph(path: Path) -> ir.Model:
    """Read a graph whose weights, where they lie beside it, are mapped and read when they are used."""
    return ir.load(path)


def _tensors(model: ir.Model) -> Iterator[Any]:
    return (value.const_value for value in model.graph.initializers.values() if value.const_value is not None)


def _write_beside(model: ir.Model, data: Path, share: bool) -> None:
    with data.open("wb") as out:
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < _LEAST_BESIDE or (share and _lies_in(tensor, data.parent)):
                continue
            offset = -(-out.tell() // _ALIGNMENT) * _ALIGNMENT
            out.truncate(offset)
            out.seek(offset)
            array = tensor.numpy()
            for block in _blocks(array):
                out.write(block)
            value.const_value = ir.ExternalTensor(
                data.name,
                offset,
                out.tell() - offset,
                tensor.dtype,
                shape=ir.Shape(array.shape),
                name=value.name or "",
                base_dir=str(data.parent),
            )
            give_back_pages(array)


def _lies_in(tensor: Any, folder: Path) -> bool:
    return isinstance(tensor, ir.ExternalTensor) and Path(tensor.path).resolve().parent == folder.resolve()


def _blocks(array: NDArray[Any]) -> Iterator[Any]:
    """The bytes of an array in C order, some rows at a time; it may be a transposed view of a mapped file."""
    if array.ndim < 2:
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        return
    rows = max(1, _BLOCK // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        yield np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
        if block.flags.c_contiguous:
            give_back_pages(block)
