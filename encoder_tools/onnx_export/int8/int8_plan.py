"""From a float32 graph to int8: look at its tensors, smooth them, and order them by what their rounding costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from encoder_tools.onnx_export.graph.graph_file import open_graph, save_graph
from encoder_tools.onnx_export.graph.int8_weights import restore_matrices
from encoder_tools.onnx_export.half.ranges import Feed
from encoder_tools.onnx_export.int8.products import find_groups
from encoder_tools.onnx_export.int8.rewriting import Treatment, to_int8
from encoder_tools.onnx_export.int8.samples import sample_tensors
from encoder_tools.onnx_export.int8.sensitivity import sensitivities
from encoder_tools.onnx_export.int8.smoothing import Smoothing, choose_smoothing

_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)


class Candidate(NamedTuple):
    """One way to quantize a graph.

    :ivar treatment: of the most sensitive tensors; all others have one scale for a whole batch.
    :ivar tensors: how many they are.
    """

    treatment: Treatment
    tensors: int

    @property
    def in_words(self) -> str:
        """For the log and the manifest."""
        if not self.tensors:
            return "one scale for each tensor"
        how = "a scale for each row of" if self.treatment == "row" else "in float32:"
        return f"{how} the {self.tensors} most sensitive tensors"


class Int8Plan(NamedTuple):
    """What was measured of a graph.

    :ivar graph: the float32 graph, with matrices that are not stored as int8.
    :ivar smoothings: by tensor.
    :ivar order: tensors, from the most to the least sensitive.
    :ivar layers: the names of the products of each tensor.
    :ivar temporary: files to remove when all is written.
    """

    graph: Path
    smoothings: Mapping[str, Smoothing]
    order: Sequence[str]
    layers: Mapping[str, tuple[str, ...]]
    temporary: Sequence[Path] = ()

    def close(self) -> None:
        """Remove what was written for the plan alone."""
        for file in self.temporary:
            file.unlink(missing_ok=True)

    def candidates(self) -> Iterator[Candidate]:
        """From the fastest to the nearest; at most half of the tensors are treated otherwise."""
        yield Candidate("tensor", 0)
        for count in _COUNTS:
            if count <= len(self.order) // 2:
                yield Candidate("row", count)
                yield Candidate("float32", count)

    def treated(self, candidate: Candidate) -> tuple[str, ...]:
        """Names of the layers that are treated otherwise."""
        return tuple(layer for name in self.order[: candidate.tensors] for layer in self.layers[name])

    def write(self, candidate: Candidate, out: Path) -> list[Path]:
        """Write the graph of a candidate.

        :return: ``out``, and its external data where one protobuf cannot hold the weights.
        """
        model = open_graph(self.graph)
        to_int8(model, self.smoothings, dict.fromkeys(self.order[: candidate.tensors], candidate.treatment))
        return save_graph(model, out)


def plan_int8(graph: Path, calibration: Sequence[Feed], few: Sequence[Feed]) -> Int8Plan:
    """Measure a graph.

    :param graph: ONNX file that computes in float32; matrices stored as int8 are restored in a file beside it.
    :param calibration: batches whose tensors are looked at; all tensors of a batch are in memory together.
    :param few: batches that are run once for each tensor.
    """
    model = open_graph(graph)
    source, temporary = graph, list[Path]()
    if restore_matrices(model):
        source = graph.with_name(f"{graph.stem}.restored.onnx")
        temporary = save_graph(model, source)
    groups = find_groups(model.graph)
    if not groups:  # all matrices are tiny: word tables alone are stored as int8
        return Int8Plan(source, {}, [], {}, temporary)
    names = [group.tensor.name or "" for group in groups]
    samples = sample_tensors(source, names, calibration)
    smoothings = {
        name: choose_smoothing(samples[name], [product.matrix() for product in group.products])
        for name, group in zip(names, groups, strict=True)
        if name in samples
    }
    moved = sensitivities(source, smoothings, few)
    layers = {
        name: tuple(product.name for product in group.products) for name, group in zip(names, groups, strict=True)
    }
    order = sorted(moved, key=moved.__getitem__, reverse=True)
    return Int8Plan(source, smoothings, order, layers, temporary)
