"""From an encoder-decoder checkpoint to a running embedding service.

Importing this package loads neither torch nor onnxruntime; names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encoder_tools.distillation.run import distill as distill
    from encoder_tools.errors import EncoderToolsError as EncoderToolsError
    from encoder_tools.evaluation.evaluate import evaluate as evaluate
    from encoder_tools.evaluation.tasks import Task as Task
    from encoder_tools.extraction import extract as extract
    from encoder_tools.model.model_folder import ModelFolder as ModelFolder
    from encoder_tools.onnx_export import export as export
    from encoder_tools.protocols import TextEncoder as TextEncoder
    from encoder_tools.runtime import OnnxCrossEncoder as OnnxCrossEncoder
    from encoder_tools.runtime import OnnxEncoder as OnnxEncoder
    from encoder_tools.training.run import train as train
    from encoder_tools.trimming import trim as trim

__version__ = "0.1.0"

_HOMES = {
    "EncoderToolsError": "encoder_tools.errors",
    "ModelFolder": "encoder_tools.model.model_folder",
    "OnnxCrossEncoder": "encoder_tools.runtime",
    "OnnxEncoder": "encoder_tools.runtime",
    "Task": "encoder_tools.evaluation.tasks",
    "TextEncoder": "encoder_tools.protocols",
    "distill": "encoder_tools.distillation.run",
    "evaluate": "encoder_tools.evaluation.evaluate",
    "export": "encoder_tools.onnx_export",
    "extract": "encoder_tools.extraction",
    "train": "encoder_tools.training.run",
    "trim": "encoder_tools.trimming",
}

__all__ = [
    "EncoderToolsError",
    "ModelFolder",
    "OnnxCrossEncoder",
    "OnnxEncoder",
    "Task",
    "TextEncoder",
    "__version__",
    "distill",
    "evaluate",
    "export",
    "extract",
    "train",
    "trim",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'encoder_tools' has no attribute {name!r}")
    return getattr(import_module(home), name)
