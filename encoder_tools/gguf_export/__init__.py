"""Encoders in the Gemma 3 layout as GGUF files for llama.cpp and Ollama; needs the extra ``gguf``."""

from encoder_tools.gguf_export.gguf_file import GgufReport, export_gguf

__all__ = ["GgufReport", "export_gguf"]
