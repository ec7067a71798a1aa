"""From a float32 graph to its variant in half precision: measure, scale exactly, convert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import onnx_ir as ir

from encoder_tools.errors import ExportError
from encoder_tools.onnx_export.graph.graph_file import open_graph, save_graph
from encoder_tools.onnx_export.half.conversion import LEVELS, HalfType, Level, to_half
from encoder_tools.onnx_export.half.emulation import emulated
from encoder_tools.onnx_export.half.exponents import apply_exponents, choose_exponents
from encoder_tools.onnx_export.half.ranges import Feed, Range, measure_ranges

_FLOAT32_LARGEST = 3.4e38


class Scaling(NamedTuple):
    """How a graph was scaled.

    :ivar ranges: measured, by tensor.
    :ivar exponents: by tensor; empty where no range asks for scaling.
    """

    ranges: Mapping[str, Range]
    exponents: Mapping[str, int]

    @property
    def peak(self) -> float:
        """Largest absolute number that was measured."""
        return max((measured.peak for measured in self.ranges.values()), default=0.0)

    @property
    def largest_exponent(self) -> int:
        """Of the tensors that were scaled."""
        return max(self.exponents.values(), default=0)


def plan_scaling(graph: Path, half: HalfType, feeds: Sequence[Feed]) -> Scaling:
    """Measure a float32 graph and choose exponents.

    :raises ExportError: naming the first layer whose numbers are infinite in float32 already.
    """
    ranges = measure_ranges(graph, feeds)
    infinite = [name for name, measured in ranges.items() if not measured.peak <= _FLOAT32_LARGEST]
    if infinite:
        layer = _layer_of(open_graph(graph), infinite[0])
        raise ExportError(
            f"{layer} gives numbers that are infinite in float32 already, so no scale makes {half.name} safe. Train "
            "the model with a smaller learning rate or with weight decay; nothing was written."
        )
    return Scaling(ranges, choose_exponents(open_graph(graph), ranges, half.largest))


def scaled_graph(graph: Path, scaling: Scaling) -> ir.Model:
    """The float32 graph with its tensors scaled; it computes the same."""
    model = open_graph(graph)
    apply_exponents(model, scaling.exponents)
    return model


def write_half(
    graph: Path, out: Path, half: HalfType, scaling: Scaling, level: Level = LEVELS[0], *, guard: bool = True
) -> tuple[list[Path], list[str]]:
    """Convert a float32 graph and write it.

    :param level: what to convert.
    :param guard: false for a plain conversion, without scaling and without islands.
    :return: the files, and the layers that stayed in float32 because their numbers are too large.
    """
    model = scaled_graph(graph, scaling) if guard else open_graph(graph)
    islands = to_half(model, half, scaling.ranges, scaling.exponents, level, guard=guard)
    return save_graph(model, out), islands


def write_emulation(graph: Path, out: Path, half: HalfType) -> None:
    """Write what a CPU can run of a graph in half precision, beside it: its weights stay where they are."""
    ir.save(emulated(open_graph(graph), half.dtype), out)


@contextmanager
def emulation_of(graph: Path, half: HalfType) -> Iterator[Path]:
    """What a CPU can run of a graph in half precision, for the length of the block."""
    out = graph.with_name("emulation.onnx")
    try:
        write_emulation(graph, out, half)
        yield out
    finally:
        out.unlink(missing_ok=True)


def _layer_of(model: ir.Model, tensor: str) -> str:
    for node in model.graph:
        if any(value.name == tensor for value in node.outputs):
            return f"The layer {node.name!r}" if node.name else f"The tensor {tensor!r}"
    return f"The tensor {tensor!r}"
