"""The student: a small body, mean pooling, one dense layer to the teacher's width; saved as a plain folder."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from encoder_tools.distillation.student.architectures import StudentShape
from encoder_tools.io.files import write_json


class Student(nn.Module):
    """Body and dense layer; the dense layer is applied to tokens, which pooling by the mean makes no difference to.

    :param body: a transformers model; see :mod:`encoder_tools.distillation.student.architectures`.
    """

    def __init__(self, shape: StudentShape, body: Any) -> None:
        super().__init__()
        self.shape, self.body = shape, body
        self.dense = nn.Linear(shape.hidden, shape.width, bias=False)

    def tokens(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Token vectors of shape (B, L, width), whose masked mean is the vector of the text."""
        return self.dense(self.body(input_ids=ids, attention_mask=mask).last_hidden_state)  # type: ignore[no-any-return]


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
