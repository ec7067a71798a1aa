"""Norms and rotations as single operators: the same numbers, fewer nodes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from tiny import make_checkpoint
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from encoder_tools.extraction import extract
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.graph.fused_operators import fused_norms


class AlmostNorm(T5LayerNorm):
    """Looks like an RMS norm and is none."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) * 1.001


class Gate(nn.Module):
    """Has a weight and an epsilon, and takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-6

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left * right


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gemma, self.t5, self.almost = Gemma3RMSNorm(8, 1e-6), T5LayerNorm(8, 0.1), AlmostNorm(8, 1e-6)
        self.layer, self.gate = nn.LayerNorm(8), Gate()
        for module in self.children():
            nn.init.normal_(module.weight, std=0.3)


def test_norms_are_told_by_their_numbers_and_given_back():
    torch.manual_seed(0)
    body = Body()
    before = dict(body.named_children())
    texts = torch.randn(2, 5, 8) * 7
    wanted = {name: body.get_submodule(name)(texts) for name in ("gemma", "t5", "almost", "layer")}
    with fused_norms(body) as replaced:
        assert replaced == 2
        changed = {name for name, module in body.named_children() if module is not before[name]}
        assert changed == {"gemma", "t5"}
        for name, truth in wanted.items():
            torch.testing.assert_close(body.get_submodule(name)(texts), truth, rtol=1e-6, atol=1e-6)
    assert dict(body.named_children()) == before


def test_a_failure_while_tracing_gives_the_norms_back_too():
    body = Body()
    before = dict(body.named_children())
    with pytest.raises(RuntimeError, match="no"), fused_norms(body):
        raise RuntimeError("no")
    assert dict(body.named_children()) == before


@pytest.mark.parametrize(("family", "norms"), [("t5gemma2", 1 + 6 * 4), ("t5", 1 + 2 * 3)])
def test_a_graph_has_one_operator_a_norm(family: str, norms: int, tmp_path: Path):
    make_checkpoint(family, tmp_path / "checkpoint")
    extract(tmp_path / "checkpoint", tmp_path / "model")
    export(tmp_path / "model")
    graph = onnx.load(tmp_path / "model" / "onnx" / "model.onnx").graph
    counts = Counter(node.op_type for node in graph.node)
    assert counts["RMSNormalization"] == norms
    assert counts["Sqrt"] == counts["Reciprocal"] == 0
    if family == "t5gemma2":
        assert counts["RotaryEmbedding"] == 2 * 4  # queries and keys of four layers
        assert counts["Attention"] == 4
