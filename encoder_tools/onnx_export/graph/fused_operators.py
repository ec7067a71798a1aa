"""Norms and rotations as single operators of the graph: a third faster than the dozen small ones they are traced to.

transformers writes RMS norms out in elementary operations, and the exporter keeps them. While a graph is traced, each
module that computes such a norm is replaced by torch's own ``rms_norm``, which becomes ONNX's ``RMSNormalization``.
Whether a module does is not read from its name but tried: it must give the same numbers.

Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import onnx_ir as ir

_SAME = 1e-6  # relative difference of two ways to round


class _Norm(torch.nn.Module):
    """``rms_norm`` with a weight that is a constant of the graph."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)
        self.epsilon = epsilon

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        weight: Any = self.weight
        return torch.nn.functional.rms_norm(hidden, (hidden.shape[-1],), weight, self.epsilon)


@contextmanager
def fused_norms(body: torch.nn.Module) -> Iterator[int]:
    """Replace the RMS norms of a body for the length of the block.

    :return: how many were replaced.
    """
    replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]] = []
    try:
        for parent in list(body.modules()):
            for name, module in list(parent.named_children()):
                norm = _as_rms_norm(module)
                if norm is not None:
                    setattr(parent, name, norm)
                    replaced.append((parent, name, module))
        yield len(replaced)
    finally:
        for parent, name, module in replaced:
            setattr(parent, name, module)


def _as_rms_norm(module: torch.nn.Module) -> _Norm | None:
    """The module as one operator, if that is what it computes: with its weight as it is, or with one added (Gemma)."""
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(weight, torch.Tensor) or weight.dim() != 1 or not isinstance(epsilon, float):
        return None
    if weight.dtype != torch.float32 or list(module.children()) or getattr(module, "bias", None) is not None:
        return None
    probe = torch.linspace(-3, 2, 4 * len(weight), device=weight.device).sin().reshape(4, len(weight)) * 2
    with torch.no_grad():
        for made in (_Norm(weight.detach(), epsilon), _Norm(weight.detach() + 1, epsilon)):
            try:
                expected = module(probe)
            except Exception:  # noqa: BLE001 - not a module of one tensor: not a norm
                return None
            if isinstance(expected, torch.Tensor) and torch.allclose(made(probe), expected, rtol=_SAME, atol=_SAME):
                return made
    return None


def broadcast_rotations(model: ir.Model, batch_of: str) -> int:
    """Repeat the angles of each ``RotaryEmbedding`` for every row of the batch, in place.

    The exporter fuses rotations whose angles are the same for all rows, (1, L, D/2); the operator wants (B, L, D/2).

    :param batch_of: an input of the graph whose first axis is the batch.
    :return: how many rotations there are.
    """
    import onnx_ir as ir

    graph = model.graph
    rotations = [node for node in graph if node.op_type == "RotaryEmbedding" and len(node.inputs) == 3]
    if not rotations:
        return 0
    ones = ir.val("rows.ones", const_value=ir.tensor([1, 1], dtype=ir.DataType.INT64, name="rows.ones"))
    graph.register_initializer(ones)
    batch = next(value for value in graph.inputs if value.name == batch_of)
    repeated: dict[ir.Value, ir.Value] = {}
    for node in rotations:
        for position in (1, 2):
            angles = node.inputs[position]
            if angles is None:
                continue
            if angles not in repeated:
                rows = ir.node("Shape", [batch], {"start": 0, "end": 1})
                shape = ir.node("Concat", [rows.outputs[0], ones], {"axis": 0})
                expand = ir.node("Expand", [angles, shape.outputs[0]])
                graph.insert_before(node, [rows, shape, expand])
                repeated[angles] = expand.outputs[0]
            node.replace_input_with(position, repeated[angles])
    return len(rotations)
