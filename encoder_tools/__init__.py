"""From an encoder-decoder checkpoint to a running embedding service.

Importing this package loads neither torch nor onnxruntime; names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encoder_tools.errors import EncoderToolsError as EncoderToolsError
    from encoder_tools.model.model_folder import ModelFolder as ModelFolder
    from encoder_tools.protocols import TextEncoder as TextEncoder
    from encoder_tools.runtime import OnnxEncoder as OnnxEncoder

__version__ = "0.1.0"

_HOMES = {
    "EncoderToolsError": "encoder_tools.errors",
    "ModelFolder": "encoder_tools.model.model_folder",
    "OnnxEncoder": "encoder_tools.runtime",
    "TextEncoder": "encoder_tools.protocols",
}

__all__ = ["EncoderToolsError", "ModelFolder", "OnnxEncoder", "TextEncoder", "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'encoder_tools' has no attribute {name!r}")
    return getattr(import_module(home), name)
