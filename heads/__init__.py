"""Classifiers over an encoder's vectors: fitted, calibrated, and served with numpy alone.

Importing this package loads numpy and safetensors only. What is fitted needs scikit-learn, which is imported when
such a name is first used; serving a saved head (:func:`load_head`, :class:`FittedHead`) never does.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from heads.serving.batch import classify, predict_all
from heads.serving.fitted_head import FittedHead, Label, LabelProbability, Prediction
from heads.serving.serialization import load_head, save_head

if TYPE_CHECKING:
    from heads.estimators.hierarchical import HierarchicalHead as HierarchicalHead
    from heads.estimators.linear import LinearHead as LinearHead
    from heads.estimators.mlp import MLPHead as MLPHead
    from heads.estimators.multilabel import MultiLabelHead as MultiLabelHead
    from heads.estimators.pipeline import Examples as Examples
    from heads.estimators.pipeline import RiskGuarantee as RiskGuarantee
    from heads.estimators.pipeline import fit_head as fit_head
    from heads.estimators.prototype import NeighborHead as NeighborHead
    from heads.estimators.prototype import PrototypeHead as PrototypeHead
    from heads.estimators.regression import RegressionHead as RegressionHead
    from heads.estimators.zero_shot import ZeroShotHead as ZeroShotHead
    from heads.evaluation.classification import evaluate as evaluate_head
    from heads.workflows.predict import predict_file as predict_file

__all__ = [
    "Examples",
    "FittedHead",
    "HierarchicalHead",
    "Label",
    "LabelProbability",
    "LinearHead",
    "MLPHead",
    "MultiLabelHead",
    "NeighborHead",
    "Prediction",
    "PrototypeHead",
    "RegressionHead",
    "RiskGuarantee",
    "ZeroShotHead",
    "classify",
    "evaluate_head",
    "fit_head",
    "load_head",
    "predict_all",
    "predict_file",
    "save_head",
]

_LAZY = {
    "Examples": "heads.estimators.pipeline.Examples",
    "HierarchicalHead": "heads.estimators.hierarchical.HierarchicalHead",
    "LinearHead": "heads.estimators.linear.LinearHead",
    "MLPHead": "heads.estimators.mlp.MLPHead",
    "MultiLabelHead": "heads.estimators.multilabel.MultiLabelHead",
    "NeighborHead": "heads.estimators.prototype.NeighborHead",
    "PrototypeHead": "heads.estimators.prototype.PrototypeHead",
    "RegressionHead": "heads.estimators.regression.RegressionHead",
    "RiskGuarantee": "heads.estimators.pipeline.RiskGuarantee",
    "ZeroShotHead": "heads.estimators.zero_shot.ZeroShotHead",
    "evaluate_head": "heads.evaluation.classification.evaluate",
    "fit_head": "heads.estimators.pipeline.fit_head",
    "predict_file": "heads.workflows.predict.predict_file",
}
_RENAMED = {"Judgement": "Prediction", "NeighbourHead": "NeighborHead", "judge_all": "predict_all"}
"""Names of the first version, which keep working for one version more."""


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(f"heads.{name} is called heads.{new} now.", DeprecationWarning, stacklevel=2)
        return globals()[new] if new in globals() else __getattr__(new)
    if name not in _LAZY:
        raise AttributeError(f"module 'heads' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].rpartition(".")
    return getattr(import_module(module), attribute)
