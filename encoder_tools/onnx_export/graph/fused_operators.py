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
    import onnx

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


def broadcast_rotations(model: onnx.ModelProto, batch_of: str) -> int:
    """Repeat the angles of each ``RotaryEmbedding`` for every row of the batch, in place.

    The exporter fuses rotations whose angles are the same for all rows, (1, L, D/2); the operator wants (B, L, D/2).

    :param batch_of: an input of the graph whose first axis is the batch.
    :return: how many rotations there are.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    rotations = [node for node in graph.node if node.op_type == "RotaryEmbedding" and len(node.input) == 3]
    made: dict[str, str] = {}
    nodes = list(graph.node)
    for node in rotations:
        for position in (1, 2):
            angles = node.input[position]
            if angles not in made:
                made[angles] = f"{angles}.rows"
                new = [
                    helper.make_node("Shape", [batch_of], [f"{angles}.batch"], start=0, end=1),
                    helper.make_node("Concat", [f"{angles}.batch", "rows.ones"], [f"{angles}.shape"], axis=0),
                    helper.make_node("Expand", [angles, f"{angles}.shape"], [made[angles]]),
                ]
                at = nodes.index(node)
                nodes[at:at] = new
            node.input[position] = made[angles]
    if rotations:
        import numpy as np

        graph.initializer.append(numpy_helper.from_array(np.ones(2, dtype=np.int64), "rows.ones"))
        del graph.node[:]
        graph.node.extend(nodes)
    return len(rotations)
