"""The number of positions a model has, by its configuration alone.

Only models that look positions up in a learned table end there; others compute them (rotations, relative distances),
and their ``max_position_embeddings`` is no more than the length that they were trained for. RoBERTa and its kin number
positions from the padding id on, so that as many rows of their table are never used.

Source: the embeddings of each model in https://github.com/huggingface/transformers (``modeling_*.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FROM_ZERO = frozenset({
    "albert", "bert", "bert-generation", "canine", "convbert", "distilbert", "electra", "ernie", "fnet", "gpt2",
    "layoutlm", "megatron-bert", "mobilebert", "mra", "nezha", "nystromformer", "openai-gpt", "qdqbert", "rembert",
    "roc_bert",
    "splinter", "squeezebert", "visual_bert", "xlm", "flaubert", "yoso", "clip_text_model", "big_bird",
})  # fmt: skip
_FROM_PADDING = frozenset({
    "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "mluke", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod", "layoutlmv3",
})  # fmt: skip
_RELATIVE = ("relative_key", "relative_key_query")


def most_positions(config: Mapping[str, Any]) -> int | None:
    """Longest input in tokens that a table of positions holds; None for a model without one, or of an unknown type."""
    kind = config.get("model_type")
    count = config.get("max_position_embeddings", config.get("n_positions"))
    if kind not in _FROM_ZERO | _FROM_PADDING or isinstance(count, bool) or not isinstance(count, int) or count < 1:
        return None
    if config.get("position_embedding_type") in _RELATIVE and kind in _FROM_ZERO:
        return None
    if kind in _FROM_ZERO:
        return count
    padding = config.get("pad_token_id", 1)
    return max(1, count - (padding if isinstance(padding, int) else 1) - 1)
