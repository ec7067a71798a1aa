"""The torch-free runtime: an exported model folder in, unit vectors out; or pairs in, scores out."""

from encoder_tools.runtime.cross_encoder import OnnxCrossEncoder
from encoder_tools.runtime.encoder import OnnxEncoder

__all__ = ["OnnxCrossEncoder", "OnnxEncoder"]
