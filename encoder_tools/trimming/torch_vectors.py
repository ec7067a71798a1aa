"""Vectors before and after, by torch, in memory of the same alignment: equal pieces then give equal bits."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from encoder_tools.protocols import FloatMatrix

_SAMPLE = 300
_SEED = 20_261_127
_LONGEST = 2000  # characters; longer texts take minutes on a CPU and show nothing more


def sample(texts: Sequence[str]) -> list[str]:
    """Some of the texts, cut to a length that a CPU can encode."""
    chosen = random.Random(_SEED).sample(list(texts), min(_SAMPLE, len(texts)))  # noqa: S311 - not a secret
    return [text for text in chosen if len(text) <= _LONGEST] or chosen[:1]


def vectors_of(folder: Path, texts: Sequence[str]) -> FloatMatrix:
    """Vectors of texts, each encoded alone, float32 of shape (n_texts, dim)."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    settings = {"dtype": torch.float32}
    model = SentenceTransformer(
        str(folder), device="cpu", model_kwargs=settings, local_files_only=True, trust_remote_code=False
    )
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # a mapped file has another alignment, and kernels round by it
    vectors = model.encode(list(texts), batch_size=1, convert_to_numpy=True, show_progress_bar=False)
    del model
    gc.collect()
    return np.asarray(vectors, dtype=np.float32)
