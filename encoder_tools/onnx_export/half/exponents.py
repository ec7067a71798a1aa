"""Exact scaling: every tensor may be stored as its numbers times a power of two, and the graph computes the same.

In the architectures of T5 and Gemma the residual stream grows beyond 65,504, where float16 ends. But most of a
transformer is homogeneous: what a linear layer, a residual sum, a ReLU, a gate or a weighted mean of values gives for x
times 2^-e is the same times 2^-e, and a norm gives the same for x as for x times 2^-e (its epsilon times 4^-e). So
tensors fall into classes that must share an exponent; between classes stand weights, which take the difference.
Multiplying by a power of two changes no digit of a number, so the scaled graph is equal to the old one, not near it.

What is not homogeneous keeps the exponent 0: the input and output of GELU, softmax, tanh and of every operator that is
not known here; attention scores, because softmax is not; and the graph's outputs. T5 has a residual stream without a
norm after each layer, which its output projections take; the inside of its gate, GELU(x W), cannot be scaled.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from encoder_tools.onnx_export.half.ranges import Range

HEADROOM = 16.0
"""How many times larger than measured the numbers of other texts may be."""
_LAYOUT = frozenset(
    "Reshape Transpose Unsqueeze Squeeze Expand Slice Split Identity Flatten Tile GatherND Relu Neg Abs ReduceSum "
    "ReduceMean ReduceMax ReduceMin".split()
)
NORMS = ("RMSNormalization", "LayerNormalization")
_DROPPED = ("Shape", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "IsNaN", "IsInf")


class Classes:
    """Tensors that must have one exponent, and those whose exponent is 0 (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}
        self._fixed: set[str] = set()

    def root(self, name: str) -> str:
        """The class's representative."""
        parent = self._parent.setdefault(name, name)
        while parent != self._parent[parent]:
            self._parent[parent] = self._parent[self._parent[parent]]
            parent = self._parent[parent]
        return parent

    def join(self, names: Iterable[str]) -> None:
        """Give tensors one exponent."""
        roots = [self.root(name) for name in names]
        for root in roots[1:]:
            self._parent[root] = roots[0]
        if roots and any(root in self._fixed for root in roots):
            self._fixed.add(roots[0])

    def fix(self, names: Iterable[str]) -> None:
        """Give tensors the exponent 0."""
        self._fixed.update(self.root(name) for name in names)

    def is_fixed(self, name: str) -> bool:
        """Whether a tensor's exponent is 0 whatever its range."""
        return self.root(name) in self._fixed

    def members(self) -> dict[str, list[str]]:
        """Names by representative."""
        classes: dict[str, list[str]] = defaultdict(list)
        for name in self._parent:
            classes[self.root(name)].append(name)
        return classes


def choose_exponents(model: ir.Model, ranges: Mapping[str, Range], limit: float) -> dict[str, int]:
    """An exponent for every tensor whose class would exceed ``limit`` by what was measured, with headroom.

    :param limit: largest number of the format that the graph is converted to.
    :return: by name; tensors that are not in it have exponent 0.
    """
    exponents: dict[str, int] = {}
    classes = _classes(model)
    for root, names in classes.members().items():
        peak = max((ranges[name].peak for name in names if name in ranges), default=0.0)
        if not classes.is_fixed(root) and math.isfinite(peak) and peak * HEADROOM > limit:
            exponents |= dict.fromkeys(names, math.ceil(math.log2(peak * HEADROOM / limit)))
    return exponents


def _classes(model: ir.Model) -> Classes:
    classes = Classes()
    nodes = [node for node in model.graph if floats(node.outputs) or node.op_type not in _DROPPED]
    for node in nodes:
        _RULES.get(node.op_type, _fix_all)(node, classes)
    for node in nodes:  # products of two tensors last: which factor is fixed must be known
        if node.op_type in ("Mul", "MatMul") and constant_input(node, 0) is None and constant_input(node, 1) is None:
            _join_product(node, classes)
    classes.fix(_name(output) for output in model.graph.outputs)
    return classes


def _join_product(node: ir.Node, classes: Classes) -> None:
    """One factor keeps the exponent 0 and the other goes with the product."""
    left, right = (_name(value) for value in node.inputs[:2])
    out = _name(node.outputs[0])
    if classes.is_fixed(left):
        classes.join([right, out])
    elif classes.is_fixed(right):
        classes.join([left, out])
    else:
        classes.fix([left, right, out])


def _join_all(node: ir.Node, classes: Classes) -> None:
    names = [_name(value) for value in (*floats(node.inputs), *node.outputs) if value.const_value is None]
    classes.join(names)


def _fix_all(node: ir.Node, classes: Classes) -> None:
    classes.fix(_name(value) for value in (*floats(node.inputs), *node.outputs) if value.const_value is None)


def _free(node: ir.Node, classes: Classes) -> None:
    """A node whose weights take the difference between the exponents of its input and its output."""
    constant = constant_input(node, 1) if node.op_type in ("MatMul", "Gemm", "Div") else _either_constant(node)
    bias = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    if bias is not None and constant_input(node, 2) is None:
        _fix_all(node, classes)
    elif constant is None and node.op_type not in ("Mul", "MatMul"):  # products of two tensors come later
        _fix_all(node, classes)


def _gather(node: ir.Node, classes: Classes) -> None:
    if constant_input(node, 0) is None:
        _join_all(node, classes)


def _pad(node: ir.Node, classes: Classes) -> None:
    filler = constant_input(node, 2)
    zero = len(node.inputs) < 3 or node.inputs[2] is None or (filler is not None and not np.any(filler.numpy()))
    (_join_all if zero else _fix_all)(node, classes)


def _norm(node: ir.Node, classes: Classes) -> None:
    if any(constant_input(node, position) is None for position in range(1, len(node.inputs))):
        _fix_all(node, classes)


def _attention(node: ir.Node, classes: Classes) -> None:
    """Weights of values add up to one; the scale of the scores takes the exponents of queries and keys."""
    if len([value for value in node.inputs if value is not None]) > 4 or len(node.outputs) > 1:
        _fix_all(node, classes)
        return
    classes.join([_name(node.inputs[2]), _name(node.outputs[0])])
    if len(node.inputs) > 3 and node.inputs[3] in floats(node.inputs):
        classes.fix([_name(node.inputs[3])])


def _rotary(node: ir.Node, classes: Classes) -> None:
    classes.join([_name(node.inputs[0]), _name(node.outputs[0])])
    classes.fix(_name(value) for value in node.inputs[1:3])


_RULES: Mapping[str, Callable[[ir.Node, Classes], None]] = {
    **dict.fromkeys(_LAYOUT | {"Add", "Sub", "Concat", "Where"}, _join_all),
    **dict.fromkeys(("MatMul", "Gemm", "Mul", "Div"), _free),
    **dict.fromkeys(NORMS, _norm),
    "Gather": _gather,
    "Pad": _pad,
    "Attention": _attention,
    "RotaryEmbedding": _rotary,
}


def apply_exponents(model: ir.Model, exponents: Mapping[str, int]) -> int:
    """Scale weights, epsilons and the scale of attention scores in place, so that tensors have these exponents.

    :return: how many constants changed.
    """
    scale = _Scaling(model.graph, exponents)
    for node in list(model.graph):
        scale.node(node)
    return scale.changed


class _Scaling:
    def __init__(self, graph: ir.Graph, exponents: Mapping[str, int]) -> None:
        self._graph, self._exponents = graph, exponents
        self.changed = 0

    def _of(self, value: ir.Value | None) -> int:
        return 0 if value is None else self._exponents.get(value.name or "", 0)

    def node(self, node: ir.Node) -> None:
        """Scale the constants of one node."""
        out = self._of(node.outputs[0])
        kind = node.op_type
        if kind in ("MatMul", "Mul", "Gemm"):
            self._product(node, out)
        elif kind == "Div":
            self._shift(node, 1, out - self._of(node.inputs[0]))
        elif kind in ("Add", "Sub", "Concat", "Where"):
            for position in range(len(node.inputs)):
                self._shift(node, position, -out)
        elif kind == "Gather":
            self._shift(node, 0, -out)
        elif kind in NORMS:
            for position in range(1, len(node.inputs)):
                self._shift(node, position, -out)
            self._epsilon(node, self._of(node.inputs[0]))
        elif kind == "Attention":
            self._scores(node, self._of(node.inputs[0]) + self._of(node.inputs[1]))

    def _product(self, node: ir.Node, out: int) -> None:
        weights = [position for position in (0, 1) if constant_input(node, position) is not None]
        if weights:
            self._shift(node, weights[-1], self._of(node.inputs[1 - weights[-1]]) - out)
        if node.op_type == "Gemm" and len(node.inputs) > 2:
            self._shift(node, 2, -out)

    def _shift(self, node: ir.Node, position: int, exponent: int) -> None:
        """Multiply a constant input by 2^exponent."""
        value = node.inputs[position]
        tensor = constant_input(node, position)
        if value is None or tensor is None or tensor.dtype != ir.DataType.FLOAT or not exponent:
            return
        name = f"{value.name}.2^{exponent}"
        if name not in self._graph.initializers:
            shifted = ir.LazyTensor(
                lambda: ir.tensor(np.ldexp(tensor.numpy(), exponent), name=name),
                dtype=tensor.dtype,
                shape=ir.Shape(dims(tensor)),
                name=name,
            )
            self._graph.register_initializer(ir.val(name, const_value=shifted, type=value.type, shape=value.shape))
            self.changed += 1
        node.replace_input_with(position, self._graph.initializers[name])
        if not value.uses():
            self._graph.initializers.pop(value.name or "", None)

    def _epsilon(self, node: ir.Node, exponent: int) -> None:
        if exponent:
            epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
            node.attributes["epsilon"] = ir.AttrFloat32("epsilon", math.ldexp(epsilon, -2 * exponent))
            self.changed += 1

    def _scores(self, node: ir.Node, exponent: int) -> None:
        if exponent:
            if "scale" in node.attributes:
                scale = node.attributes["scale"].as_float()
            else:
                shape = node.inputs[0].shape if node.inputs[0] is not None else None
                scale = 1 / math.sqrt(int(shape[-1]))  # type: ignore[index, arg-type]  # the operator's own default
            node.attributes["scale"] = ir.AttrFloat32("scale", math.ldexp(scale, exponent))
            self.changed += 1


def floats(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    """Those of some values that are float32."""
    return [value for value in values if value is not None and value.dtype == ir.DataType.FLOAT]


def constant_input(node: ir.Node, position: int) -> ir.TensorProtocol | None:
    """The initializer at an input of a node, if there is one."""
    if position >= len(node.inputs):
        return None
    value = node.inputs[position]
    return value.const_value if value is not None and value.is_initializer() else None


def dims(tensor: ir.TensorProtocol) -> list[int]:
    """Sizes of a tensor."""
    return [int(tensor.shape[axis]) for axis in range(len(tensor.shape))]  # type: ignore[arg-type]


def _either_constant(node: ir.Node) -> ir.TensorProtocol | None:
    left = constant_input(node, 0)
    return left if left is not None else constant_input(node, 1)


def _name(value: ir.Value | None) -> str:
    name = None if value is None else value.name
    assert name  # noqa: S101 - every tensor of an exported graph has a name
    return name
