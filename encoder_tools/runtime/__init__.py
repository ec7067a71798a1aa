"""The torch-free runtime: an exported model folder in, unit vectors out."""

from encoder_tools.runtime.encoder import OnnxEncoder

__all__ = ["OnnxEncoder"]
