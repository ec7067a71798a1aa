"""A smaller vocabulary for the same model: pieces that a user's texts need, tokenizer and word table cut together."""

from encoder_tools.trimming.trim import TrimReport, trim

__all__ = ["TrimReport", "trim"]
