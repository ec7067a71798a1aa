"""Classifiers over an encoder's vectors.

Importing this package loads numpy and safetensors only. What is fitted needs scikit-learn, which is imported when
such a name is first used; serving a saved head (:func:`load_head`, :class:`FittedHead`) never does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heads.files import load_head, save_head
from heads.fitted import FittedHead, Judgement, Label, LabelProbability
from heads.many import classify, judge_all

if TYPE_CHECKING:
    from heads.hierarchical import HierarchicalHead as HierarchicalHead
    from heads.linear import LinearHead as LinearHead
    from heads.mlp import MLPHead as MLPHead
    from heads.multilabel import MultiLabelHead as MultiLabelHead
    from heads.prototype import NeighbourHead as NeighbourHead
    from heads.prototype import PrototypeHead as PrototypeHead
    from heads.regression import RegressionHead as RegressionHead
    from heads.zero_shot import ZeroShotHead as ZeroShotHead

__all__ = [
    "FittedHead",
    "HierarchicalHead",
    "Judgement",
    "Label",
    "LabelProbability",
    "LinearHead",
    "MLPHead",
    "MultiLabelHead",
    "NeighbourHead",
    "PrototypeHead",
    "RegressionHead",
    "ZeroShotHead",
    "classify",
    "judge_all",
    "load_head",
    "save_head",
]

_NEED_SCIKIT_LEARN = {
    "HierarchicalHead": "heads.hierarchical",
    "LinearHead": "heads.linear",
    "MLPHead": "heads.mlp",
    "MultiLabelHead": "heads.multilabel",
    "NeighbourHead": "heads.prototype",
    "PrototypeHead": "heads.prototype",
    "RegressionHead": "heads.regression",
    "ZeroShotHead": "heads.zero_shot",
}


def __getattr__(name: str) -> Any:
    if name not in _NEED_SCIKIT_LEARN:
        raise AttributeError(f"module 'heads' has no attribute {name!r}")
    return getattr(import_module(_NEED_SCIKIT_LEARN[name]), name)
