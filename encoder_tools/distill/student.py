"""The student: a T5Gemma-2-shaped encoder that starts as a table of word vectors.

Shape: Gemma 3 text layers with bidirectional attention (the layout that a T5Gemma 2 encoder is extracted to), mean
pooling, one dense layer to the teacher's width. With every post-norm weight at -1, Gemma's ``(1 + w)`` is zero and each
residual branch adds exactly nothing: the student is then the mean of normalised word vectors, which trains in minutes.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import Gemma3TextConfig, Gemma3TextModel

from encoder_tools.files import write_json


@dataclass(frozen=True)
class StudentShape:
    """Sizes of a student.

    :ivar norm_epsilon: epsilon of every RMS norm. At 1, a word vector much shorter than 1 stays short, so the table can
        weigh its words (a stop word near zero); with Gemma's 1e-6 every word would count the same.
    """

    vocab_size: int = 20_480
    hidden: int = 384
    layers: int = 2
    heads: int = 6
    key_value_heads: int = 2
    head_dim: int = 64
    mlp: int = 768
    width: int = 384
    max_length: int = 512
    norm_epsilon: float = 1.0

    def config(self) -> Gemma3TextConfig:
        """The transformers configuration. The window is wider than the maximum length, so it never cuts."""
        return Gemma3TextConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            head_dim=self.head_dim,
            query_pre_attn_scalar=self.head_dim,
            max_position_embeddings=self.max_length,
            sliding_window=4 * self.max_length,
            layer_types=["sliding_attention"] * (self.layers - 1) + ["full_attention"],
            use_bidirectional_attention=True,
            rms_norm_eps=self.norm_epsilon,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=2,
            attn_implementation="eager",  # short texts on a CPU: half the time of a step with sdpa
        )


class Student(nn.Module):
    """Body, mean pooling and dense layer; vectors are not normalised here."""

    def __init__(self, shape: StudentShape) -> None:
        super().__init__()
        self.shape = shape
        self.body = Gemma3TextModel(shape.config())
        self.dense = nn.Linear(shape.hidden, shape.width, bias=False)
        self.branches_open = False
        close_branches(self.body)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Vectors of shape (B, width) for token ids and a mask of shape (B, L)."""
        if self.branches_open:
            hidden = self.body(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, L, H)
        else:  # closed branches add nothing, so computing them would change nothing
            hidden = self.body.norm(self.body.embed_tokens(ids))
        kept = mask.unsqueeze(-1).to(hidden.dtype)
        return self.dense((hidden * kept).sum(1) / kept.sum(1).clamp(min=1e-9))  # type: ignore[no-any-return]

    def tokens(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Token vectors of shape (B, L, width); their masked mean is the text's vector, pooling being linear too."""
        return self.dense(self.body(input_ids=ids, attention_mask=mask).last_hidden_state)  # type: ignore[no-any-return]

    def branches(self) -> list[nn.Parameter]:
        """The post-norm weights that open and close the residual branches."""
        return _post_norms(self.body)


def close_branches(body: Gemma3TextModel) -> None:
    """Set every post-norm weight to -1, so that every residual branch adds exactly zero."""
    open_branches(body, 0.0)


def open_branches(body: Gemma3TextModel, gain: float) -> None:
    """Let every residual branch add ``gain`` times its normalised output."""
    with torch.no_grad():
        for weight in _post_norms(body):
            weight.fill_(gain - 1.0)


def start_from_pieces(student: Student, vectors: NDArray[np.float32], weights: NDArray[np.float32]) -> None:
    """Static start: the teacher's (rotated) vectors of the pieces become the word table.

    The rotation orders dimensions by variance, so the first ``hidden`` of them are the PCA, and the dense layer starts
    as the identity into them.

    :param vectors: rotated teacher vectors of every piece, of shape (vocab_size, width).
    :param weights: importance of every piece in (0, 1], of shape (vocab_size,).
    """
    shape = student.shape
    table = vectors[:, : shape.hidden]
    rms = np.sqrt((table**2).mean(axis=1, keepdims=True)).clip(1e-6)
    table = table / rms * weights[:, None] / np.sqrt(shape.hidden)  # Gemma multiplies the table by sqrt(hidden)
    with torch.no_grad():
        student.body.embed_tokens.weight.copy_(torch.from_numpy(table.astype(np.float32)))
        student.body.embed_tokens.weight[0] = 0  # padding
        student.dense.weight.copy_(torch.eye(shape.width, shape.hidden))


def save_student(student: Student, tokenizer_folder: Path, out: Path, training: dict[str, object]) -> None:
    """Write a plain Sentence Transformers folder into ``out``."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    body = out / ".body"
    student.body.save_pretrained(body)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folder / name, body / name)
    shape = student.shape
    modules = [
        Transformer(str(body), max_seq_length=shape.max_length),
        Pooling(shape.hidden, "mean"),
        Dense(shape.hidden, shape.width, bias=False, activation_function=nn.Identity()),
        Normalize(),
    ]
    modules[2].linear.weight.data.copy_(student.dense.weight.data)
    model = SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="cosine")
    model.save(str(out), create_model_card=False)
    shutil.rmtree(body)
    write_json(out / "training.json", {"shape": asdict(shape), **training})


def _post_norms(body: Gemma3TextModel) -> list[nn.Parameter]:
    return [
        norm.weight
        for layer in body.layers
        for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm)
    ]
