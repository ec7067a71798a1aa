"""The bodies that are compared: the same layers, attention in one or both directions, and how a vector is taken.

T5Gemma 2 is Gemma 3 with its attention opened in both directions and a decoder behind: its encoder and Gemma 3 have
the same layers, the same number of weights, and here the same weights at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = ("bidirectional", "causal", "whole")
PADDING, BEGIN, END = 0, 1, 2


@dataclass(frozen=True)
class Arrangement:
    """:ivar body: of :data:`ATTENTION`; ``whole`` is the encoder with a decoder of as many layers, one step of it.

    :ivar pooling: ``mean`` over all tokens, ``last`` token, or the decoder's ``first`` state.
    """

    body: str
    pooling: str

    @property
    def name(self) -> str:
        """As in the result."""
        return f"{self.body}, {self.pooling}"


ARRANGEMENTS = (
    Arrangement("bidirectional", "mean"),
    Arrangement("causal", "mean"),
    Arrangement("causal", "last"),
    Arrangement("whole", "first"),
)


@dataclass(frozen=True)
class Size:
    """Numbers of pieces, channels, layers, heads, and channels inside the feed-forward layers."""

    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 384


class Body(nn.Module):
    """Token ids to one vector for each text."""

    def __init__(self, arrangement: Arrangement, size: Size, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.arrangement = arrangement
        self.body = _BUILD[arrangement.body](size)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """:param ids: (texts, tokens), padded at the right; ``mask`` is 1 where there is a token.

        :return: (texts, width), float32, not normalized.
        """
        states: Tensor = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.arrangement.pooling == "first":
            return states[:, 0]
        if self.arrangement.pooling == "last":
            return states[torch.arange(len(ids)), mask.sum(1) - 1]
        weights = mask[..., None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)


class Whole(nn.Module):
    """An encoder, and a decoder of as many layers that makes one step: what it would begin its answer with."""

    def __init__(self, size: Size) -> None:
        from transformers.models.t5gemma2 import T5Gemma2DecoderConfig
        from transformers.models.t5gemma2.modeling_t5gemma2 import T5Gemma2Decoder

        super().__init__()
        self.encoder = _bidirectional(size)
        self.decoder = T5Gemma2Decoder(T5Gemma2DecoderConfig(**_settings(size), dropout_rate=0.0, use_cache=False))
        self.decoder.embed_tokens = self.encoder.embed_tokens  # tied, as published

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """An output with ``last_hidden_state`` of shape (texts, 1, width)."""
        encoded = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        begin = torch.full((len(input_ids), 1), BEGIN)
        return self.decoder(
            input_ids=begin,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        )


def _bidirectional(size: Size) -> nn.Module:
    from transformers.models.t5gemma2 import T5Gemma2TextConfig
    from transformers.models.t5gemma2.modeling_t5gemma2 import T5Gemma2TextEncoder

    encoder: nn.Module = T5Gemma2TextEncoder(
        T5Gemma2TextConfig(**_settings(size), dropout_rate=0.0), eoi_token_index=-1
    )
    return encoder


def _causal(size: Size) -> nn.Module:
    from transformers import Gemma3TextConfig, Gemma3TextModel

    weights = {
        name.replace("pre_self_attn", "input").replace("post_self_attn", "post_attention"): value
        for name, value in _bidirectional(size).state_dict().items()
        if not name.endswith("eoi_embedding")  # for images, which are not here
    }
    causal: nn.Module = Gemma3TextModel(Gemma3TextConfig(**_settings(size), use_cache=False))
    causal.load_state_dict(weights)
    return causal


def _settings(size: Size) -> dict[str, Any]:
    return {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "head_dim": size.width // size.heads,
        "query_pre_attn_scalar": size.width // size.heads,
        "sliding_window": 4096,
        "max_position_embeddings": 4096,
        "layer_types": ["full_attention"] * size.layers,
        "pad_token_id": PADDING,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "attn_implementation": "sdpa",
    }


_BUILD = {"bidirectional": _bidirectional, "causal": _causal, "whole": Whole}
