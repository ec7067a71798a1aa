"""Student bodies by family: created, initialized from a word table, with nearly closed residual branches.

With nearly closed branches a student begins as the mean of its normalized word vectors, which is a fair start, and
learns from there to use its layers.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from transformers import Gemma3TextConfig, Gemma3TextModel, T5Config, T5EncoderModel

from encoder_tools.errors import InputError

Family: TypeAlias = Literal["gemma3", "t5", "teacher"]


@dataclass(frozen=True)
class StudentShape:
    """Sizes of a student.

    :ivar hidden: width of its layers; ``width`` that of its vectors.
    :ivar norm_epsilon: epsilon of every RMS norm. At 1, a word vector much shorter than 1 stays short, so that the
        table can weigh its words; with Gemma's 1e-6 every word counts the same.
    """

    vocab_size: int
    hidden: int = 384
    layers: int = 3
    heads: int = 6
    key_value_heads: int = 2
    head_dim: int = 64
    mlp: int = 768
    width: int = 384
    max_length: int = 512
    norm_epsilon: float = 1e-6
    pad_id: int = 0
    family: Family = "gemma3"


def make_body(shape: StudentShape, teacher: Any = None) -> Any:
    """A body with random layers; of family "teacher", the teacher's own with evenly spaced layers dropped.

    :param teacher: the teacher's transformers model, for that family.
    :raises InputError: if the teacher's layers are not where BERT's are, or are too few.
    """
    if shape.family == "gemma3":
        return Gemma3TextModel(_gemma(shape))
    if shape.family == "t5":
        return T5EncoderModel(_t5(shape))
    return _dropped(teacher, shape.layers)


def start_table(body: Any, shape: StudentShape, table: torch.Tensor) -> None:
    """Put a word table (vocab_size, hidden) into a body; Gemma multiplies it by the root of the width."""
    scale = math.sqrt(shape.hidden) if shape.family == "gemma3" else 1.0
    with torch.no_grad():
        body.get_input_embeddings().weight.copy_(table / scale)


def cut_table(body: Any, rows: torch.Tensor) -> None:
    """Keep these rows of a body's word table."""
    table = body.get_input_embeddings()
    made = nn.Embedding(len(rows), table.embedding_dim)
    with torch.no_grad():
        made.weight.copy_(table.weight[rows])
    body.set_input_embeddings(made)
    body.config.vocab_size = len(rows)


def open_branches(body: Any, gain: float) -> None:
    """Let every residual branch add about ``gain`` times what it would: nothing at 0. Not for dropped layers."""
    with torch.no_grad():
        for weight in _gemma_post_norms(body) if isinstance(body, Gemma3TextModel) else ():
            weight.fill_(gain - 1.0)  # Gemma multiplies by 1 + weight
        for weight in _t5_outputs(body) if isinstance(body, T5EncoderModel) else ():
            weight.mul_(gain)  # T5 has no norm behind a branch


def _gemma(shape: StudentShape) -> Gemma3TextConfig:
    """The window is wider than the maximum length, so it never cuts."""
    return Gemma3TextConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        query_pre_attn_scalar=shape.head_dim,
        max_position_embeddings=shape.max_length,
        sliding_window=4 * shape.max_length,
        layer_types=["sliding_attention"] * (shape.layers - 1) + ["full_attention"],
        use_bidirectional_attention=True,
        rms_norm_eps=shape.norm_epsilon,
        pad_token_id=shape.pad_id,
        eos_token_id=1,
        bos_token_id=2,
        attn_implementation="eager",  # short texts on a CPU: half the time of a step with sdpa
    )


def _t5(shape: StudentShape) -> T5Config:
    return T5Config(
        vocab_size=shape.vocab_size,
        d_model=shape.hidden,
        d_kv=shape.head_dim,
        d_ff=shape.mlp,
        num_layers=shape.layers,
        num_heads=shape.heads,
        feed_forward_proj="gated-gelu",
        layer_norm_epsilon=shape.norm_epsilon,
        dropout_rate=0.0,
        pad_token_id=shape.pad_id,
        attn_implementation="eager",
    )


def _dropped(teacher: Any, layers: int) -> Any:
    stack = getattr(getattr(teacher, "encoder", None), "layer", None)
    if not isinstance(stack, nn.ModuleList) or not 0 < layers <= len(stack):
        layers_there = len(stack) if isinstance(stack, nn.ModuleList) else "none where BERT has them"
        raise InputError(
            f"A student of family 'teacher' keeps {layers} of the teacher's layers, found {layers_there}. Ask for "
            "fewer, or "
            "take another family."
        )
    body = copy.deepcopy(teacher).float().requires_grad_(True)
    # the layers that the student's are trained to answer to: evenly spread, the last among them
    kept = (round(len(stack) * (position + 1) / layers) - 1 for position in range(layers))
    body.encoder.layer = nn.ModuleList([body.encoder.layer[position] for position in kept])
    body.config.num_hidden_layers = layers
    return body.eval()  # without dropout


def _gemma_post_norms(body: Any) -> list[nn.Parameter]:
    return [
        norm.weight
        for layer in body.layers
        for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm)
    ]


def _t5_outputs(body: Any) -> list[nn.Parameter]:
    return [
        weight
        for block in body.encoder.block
        for weight in (block.layer[0].SelfAttention.o.weight, block.layer[1].DenseReluDense.wo.weight)
    ]
