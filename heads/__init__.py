"""Classifiers over an encoder's vectors.

Importing this package loads numpy and safetensors only. What is fitted needs scikit-learn, which is imported when
such a name is first used; serving a saved head (:func:`load_head`, :class:`FittedHead`) never does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heads.serving.batch import classify, judge_all
from heads.serving.fitted_head import FittedHead, Judgement, Label, LabelProbability
from heads.serving.serialization import load_head, save_head

if TYPE_CHECKING:
    from heads.estimators.hierarchical import HierarchicalHead as HierarchicalHead
    from heads.estimators.linear import LinearHead as LinearHead
    from heads.estimators.mlp import MLPHead as MLPHead
    from heads.estimators.multilabel import MultiLabelHead as MultiLabelHead
    from heads.estimators.prototype import NeighbourHead as NeighbourHead
    from heads.estimators.prototype import PrototypeHead as PrototypeHead
    from heads.estimators.regression import RegressionHead as RegressionHead
    from heads.estimators.zero_shot import ZeroShotHead as ZeroShotHead

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
    "HierarchicalHead": "heads.estimators.hierarchical",
    "LinearHead": "heads.estimators.linear",
    "MLPHead": "heads.estimators.mlp",
    "MultiLabelHead": "heads.estimators.multilabel",
    "NeighbourHead": "heads.estimators.prototype",
    "PrototypeHead": "heads.estimators.prototype",
    "RegressionHead": "heads.estimators.regression",
    "ZeroShotHead": "heads.estimators.zero_shot",
}


def __getattr__(name: str) -> Any:
    if name not in _NEED_SCIKIT_LEARN:
        raise AttributeError(f"module 'heads' has no attribute {name!r}")
    return getattr(import_module(_NEED_SCIKIT_LEARN[name]), name)
