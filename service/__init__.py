"""The HTTP service and the command line: where encoder, heads and collections meet.

Importing this package loads neither torch nor onnxruntime; ``create_app`` is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.app import create_app as create_app
    from service.serving.state import Limits as Limits
    from service.serving.state import ServiceState as ServiceState

_HOMES = {"create_app": "service.app", "Limits": "service.serving.state", "ServiceState": "service.serving.state"}

__all__ = ["Limits", "ServiceState", "create_app"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'service' has no attribute {name!r}")
    return getattr(import_module(home), name)
