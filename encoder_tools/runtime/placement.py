"""Which nodes of a graph run where: what a GPU does not have falls to the CPU, and its inputs are copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

RECORD = "session.record_ep_graph_assignment_info"
"""Key of the session option that makes ONNX Runtime note where nodes run."""
_CPU = "CPUExecutionProvider"
_OF_SHAPES = frozenset(
    "Shape Size Gather Squeeze Unsqueeze Concat Slice Cast Range Constant ConstantOfShape Add Sub Mul Div Min Max "
    "Reshape Expand Equal Where Identity Not And Or Less Greater GreaterOrEqual LessOrEqual".split()
)
"""Operators that compute with sizes; ONNX Runtime keeps those on the CPU on purpose."""


def nodes_by_provider(session: Any) -> dict[str, Counter[str]]:
    """Operators by provider; empty where ONNX Runtime does not say (before 1.24, or without :data:`RECORD`)."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except Exception:  # noqa: BLE001 - ONNX Runtime's exceptions share no base below Exception
        return {}
    placed: dict[str, Counter[str]] = {}
    for part in parts:
        placed.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return placed


def fallen(placed: Mapping[str, Counter[str]]) -> Counter[str]:
    """Operators on the CPU that compute more than sizes."""
    return Counter({name: count for name, count in placed.get(_CPU, Counter()).items() if name not in _OF_SHAPES})


def in_words(operators: Counter[str]) -> str:
    """Such as "Attention (6), Gelu (6)"."""
    return ", ".join(f"{name} ({count})" for name, count in operators.most_common())
