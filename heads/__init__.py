"""Classifiers over an encoder's vectors.

Importing this package loads numpy and safetensors only. :class:`LinearHead` needs scikit-learn, which is imported when
the name is first used; serving a saved head (:func:`load_head`, :class:`FittedHead`) never does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heads.files import load_head, save_head
from heads.fitted import FittedHead, Label, LabelProbability

if TYPE_CHECKING:
    from heads.linear import LinearHead as LinearHead

__all__ = ["FittedHead", "Label", "LabelProbability", "LinearHead", "load_head", "save_head"]


def __getattr__(name: str) -> Any:
    if name != "LinearHead":
        raise AttributeError(f"module 'heads' has no attribute {name!r}")
    return import_module("heads.linear").LinearHead
