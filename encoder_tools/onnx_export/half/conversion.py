"""A float32 graph in half precision: what is safe in 16 bits, with islands of float32 where it is not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np
import onnx_ir as ir

from encoder_tools.onnx_export.graph.insertions import insert, insert_cast
from encoder_tools.onnx_export.graph.int8_weights import drop_unused_weights
from encoder_tools.onnx_export.half.exponents import HEADROOM, dims, floats
from encoder_tools.onnx_export.half.ranges import MASKED, Range


class HalfType(NamedTuple):
    """A format of 16 bits.

    :ivar name: of the variant.
    :ivar dtype: in ONNX.
    :ivar numpy: in numpy.
    :ivar largest: finite number.
    :ivar masked: stands for minus infinity in masks; far enough from the end that a score can be added to it.
    """

    name: str
    dtype: ir.DataType
    numpy: np.dtype[np.generic]
    largest: float
    masked: float


FLOAT16 = HalfType("fp16", ir.DataType.FLOAT16, np.dtype(np.float16), 65504.0, -30000.0)
BFLOAT16 = HalfType("bf16", ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16), 3.38e38, -1e30)
HALF_TYPES = {half.name: half for half in (FLOAT16, BFLOAT16)}


class Level(NamedTuple):
    """How much is converted.

    :ivar in_float32: what is not, in words.
    :ivar operators: that are.
    :ivar first_blocks: share of the transformer's blocks, from the first on, that is not: rounding in early blocks is
        what later ones enlarge.
    """

    in_float32: str
    operators: frozenset[str]
    first_blocks: float = 0.0


_SAFE_WHEN_IN_RANGE = frozenset(
    "MatMul Gemm Add Sub Mul Div Relu Gelu Erf Tanh Sigmoid Softmax Attention RMSNormalization LayerNormalization "
    "RotaryEmbedding Gather Where Concat Reshape Transpose Unsqueeze Squeeze Expand Slice Split Identity Pad Neg "
    "GatherND Flatten".split()
)
"""Operators whose kernels add up in float32 (products, norms, softmax), or add up nothing."""
_PRODUCTS = frozenset({"MatMul", "Gemm", "Attention", "Gather"})
_BLOCK = re.compile(r"(?:layers?|blocks?|h)\.(\d+)\b")
LEVELS = (
    Level("positions, pooling and what follows", _SAFE_WHEN_IN_RANGE),
    Level("norms and residual sums too", _SAFE_WHEN_IN_RANGE - {"Add", "RMSNormalization", "LayerNormalization"}),
    Level("all but products and attention", _PRODUCTS),
    *(
        Level(f"all but products and attention, and the first {share:.0%} of the blocks", _PRODUCTS, share)
        for share in (0.25, 0.5, 0.75)
    ),
)
"""From the fastest to the most precise."""
_FLOAT = ir.DataType.FLOAT


def to_half(
    model: ir.Model,
    half: HalfType,
    ranges: Mapping[str, Range],
    exponents: Mapping[str, int],
    level: Level = LEVELS[0],
    *,
    guard: bool = True,
) -> list[str]:
    """Convert a graph in place; its inputs and outputs keep their types.

    :param ranges: of the graph before it was scaled.
    :param exponents: by which it was scaled.
    :param level: what to convert.
    :param guard: keep what could overflow in float32; false gives what a plain conversion gives.
    :return: names of the nodes that stayed in float32 because their numbers are too large.
    """
    return _Conversion(model.graph, half, ranges, exponents, level, guard).run()


class _Conversion:
    def __init__(
        self,
        graph: ir.Graph,
        half: HalfType,
        ranges: Mapping[str, Range],
        exponents: Mapping[str, int],
        level: Level,
        guard: bool,
    ) -> None:
        self._graph, self._half, self._ranges, self._exponents = graph, half, ranges, exponents
        self._level, self._guard = level, guard
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._chosen: set[ir.Node | None] = set()
        self._clips: dict[ir.Value, ir.Value] = {}
        self._body: set[ir.Node | None] = set()
        self._constants: dict[ir.Value, ir.Value] = {}
        self._fits: dict[ir.Value, bool] = {}

    def run(self) -> list[str]:
        tail, body = self._after_outputs(), self._after_words()
        early = self._early(body)
        self._body.update(body)
        candidates = [
            node for node in body if node.op_type in self._level.operators and node not in tail and node not in early
        ]
        islands = [node for node in candidates if self._guard and not self._is_safe(node)]
        chosen = set(candidates) - set(islands)
        # masked scores that were added up in float32 would become minus infinity, and a row of them NaN
        chosen -= {node for node in chosen if node.op_type == "Softmax" and self._from(node) not in chosen}
        self._chosen.update(chosen)
        for node in list(self._graph):
            self._connect(node, node in chosen)
        for node in chosen:
            if node.op_type == "Attention":
                node.attributes["softmax_precision"] = ir.AttrInt64("softmax_precision", int(_FLOAT))
            for value in node.outputs:
                value.type = ir.TensorType(self._half.dtype)
        drop_unused_weights(self._graph)
        return [node.name or node.op_type for node in islands]

    def _after_outputs(self) -> set[ir.Node]:
        """Nodes that make an output of the graph, and those after them: the last norm, pooling, dense, normalize."""
        pending = [node for output in self._graph.outputs if (node := output.producer()) is not None]
        found: set[ir.Node] = set()
        first = pending[:1]  # token embeddings; the sentence embedding is made of them
        while first:
            node = first.pop()
            if node not in found:
                found.add(node)
                first += [use.node for value in node.outputs for use in value.uses()]
        return found | set(pending)

    def _after_words(self) -> list[ir.Node]:
        """Nodes that compute with word vectors, in order.

        All else is made of positions and masks. Angles of positions need more than 11 bits: in float16 the cosine of
        position 2,047 would be that of another one.
        """
        made: set[ir.Value | None] = set()
        numbers = {value for value in self._graph.inputs if value.name == "input_ids"}
        body = []
        for node in self._graph:
            if node.op_type == "Shape":
                continue
            looked_up = node.op_type == "Gather" and node.inputs[1] in numbers and bool(floats(node.outputs))
            if looked_up or (floats(node.outputs) and any(value in made for value in node.inputs)):
                body.append(node)
                made.update(node.outputs)
            elif any(value in numbers for value in node.inputs) and not floats(node.outputs):
                numbers.update(node.outputs)
        return body

    def _early(self, body: Sequence[ir.Node]) -> set[ir.Node]:
        """Nodes of the blocks that the level keeps in float32; a node without a name belongs to the one before it."""
        numbers, last = [], 0
        for node in body:
            match = _BLOCK.search(node.name or "")
            last = int(match.group(1)) if match else last
            numbers.append(last)
        first = self._level.first_blocks * (max(numbers, default=0) + 1)
        return {node for node, number in zip(body, numbers, strict=True) if number < first}

    def _is_safe(self, node: ir.Node) -> bool:
        values = [value for value in (*floats(node.inputs), *floats(node.outputs)) if not value.is_initializer()]
        if any(not self._in_range(value) for value in values):
            return False
        if node.op_type == "Attention" and self._scores_bound(node) > self._half.largest:
            return False
        weights = [value for value in floats(node.inputs) if value.is_initializer()]
        return all(self._weight_fits(value) for value in weights)

    def _in_range(self, value: ir.Value) -> bool:
        measured = self._ranges.get(value.name or "", Range(0.0)).peak
        return math.ldexp(measured, -self._exponents.get(value.name or "", 0)) * HEADROOM <= self._half.largest * 1.001

    def _scores_bound(self, node: ir.Node) -> float:
        """No score is larger than the longest query times the longest key."""
        query, key = (self._ranges.get(value.name or "", Range(0.0)).norm for value in node.inputs[:2] if value)
        scale = node.attributes["scale"].as_float() if "scale" in node.attributes else 1.0
        exponent = sum(self._exponents.get(value.name or "", 0) for value in node.inputs[:2] if value)
        return query * key * math.ldexp(scale, -exponent)

    def _weight_fits(self, value: ir.Value) -> bool:
        if value not in self._fits:
            tensor = value.const_value
            numbers = np.zeros(0) if tensor is None else tensor.numpy()
            seen = numbers if numbers.size > 1 << 16 else numbers[numbers >= MASKED]
            peak = max(float(seen.max()), -float(seen.min())) if seen.size else 0.0
            self._fits[value] = peak <= self._half.largest
        return self._fits[value]

    def _connect(self, node: ir.Node, in_half: bool) -> None:
        """Give a node inputs of its own precision."""
        wanted = self._half.dtype if in_half else _FLOAT
        for position, value in enumerate(node.inputs):
            if value is None or value.dtype not in (_FLOAT, self._half.dtype):
                continue
            if value.is_initializer():
                if in_half:
                    node.replace_input_with(position, self._constant(value))
                continue
            producer = value.producer()
            made_in = self._half.dtype if producer in self._chosen else _FLOAT
            if made_in != wanted:
                if in_half and producer not in self._body:
                    value = self._clipped(value)
                node.replace_input_with(position, self._cast(value, wanted))

    @staticmethod
    def _from(node: ir.Node) -> ir.Node | None:
        """The node that makes the first input of another."""
        value = node.inputs[0]
        return None if value is None else value.producer()

    def _clipped(self, value: ir.Value) -> ir.Value:
        """A mask whose minus infinity is a number in half precision: a row that is masked as a whole would be NaN."""
        if value not in self._clips:
            name = f"masked.{self._half.name}"
            if name not in self._graph.initializers:
                tensor = ir.tensor(np.float32(self._half.masked), name=name)
                self._graph.register_initializer(ir.val(name, const_value=tensor))
            clip = ir.node("Clip", [value, self._graph.initializers[name]])
            after = value.producer()
            self._clips[value] = insert(self._graph, clip, _FLOAT, f"{value.name}.clipped", value.shape, after=after)
        return self._clips[value]

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        key = (value, dtype)
        if key not in self._casts:
            name = f"{value.name}.{dtype.name.lower()}"
            self._casts[key] = insert_cast(self._graph, value, dtype, name, after=value.producer())
        return self._casts[key]

    def _constant(self, value: ir.Value) -> ir.Value:
        if value not in self._constants:
            self._constants[value] = half_constant(value, self._half)
            self._graph.register_initializer(self._constants[value])
        return self._constants[value]


def half_constant(value: ir.Value, half: HalfType) -> ir.Value:
    """An initializer in 16 bits, computed when it is written; masks become a number that scores can be added to."""
    tensor = value.const_value
    assert tensor is not None  # noqa: S101 - an initializer
    name = f"{value.name}.{half.name}"
    made = ir.LazyTensor(
        lambda: ir.tensor(_rounded(tensor.numpy(), half), dtype=half.dtype, name=name),
        dtype=half.dtype,
        shape=ir.Shape(dims(tensor)),
        name=name,
    )
    return ir.val(name, const_value=made, type=ir.TensorType(half.dtype), shape=value.shape)


def _rounded(numbers: np.ndarray, half: HalfType) -> np.ndarray:
    masked = numbers < MASKED if numbers.size <= 1 << 16 else None
    with np.errstate(over="ignore"):
        result = numbers.astype(half.numpy)
    if masked is not None and masked.any():
        result[masked] = half.masked
    return result
