"""A teacher: any Sentence Transformers folder with a transformer body; its states per token and layer, its vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from encoder_tools.distillation.state_loss import mean_pooled
from encoder_tools.errors import CheckpointError, one_line

_POSITIONS = 32  # whose mean stands for all positions in the student's word table


class Teacher:
    """Body and head of a Sentence Transformers folder.

    :param folder: the teacher.
    :param kept: the teacher's id of each of the student's pieces, of shape (vocab_size,); None where the student has
        pieces of its own, and :meth:`states` takes the teacher's ids.
    :raises CheckpointError: if sentence-transformers cannot load it, or its body gives no hidden states.
    :ivar width: of its vectors.
    :ivar hidden: width of its layers, of which there are ``layers``.
    :ivar tokenwise: whether a vector is the plain mean of the last states, so that a student's tokens can be the
        teacher's tokens.
    """

    def __init__(self, folder: Path, kept: NDArray[np.int64] | None, device: torch.device) -> None:
        try:
            model = _load(folder)
            body: Any = model[0].model
            _check_loaded(folder, body)
            self.layers, self.hidden = int(body.config.num_hidden_layers), int(body.config.hidden_size)
            self._head = torch.nn.ModuleList(list(model)[1:]).eval().requires_grad_(False).to(device)
            self._body = body.eval().requires_grad_(False).to(device)
            self._model, self._kept = model, None if kept is None else torch.from_numpy(kept).to(device)
            ids = torch.zeros(1, 3, dtype=torch.long, device=device)
            states = self.states(ids, torch.ones_like(ids))
            vector = self.vectors(states[-1], torch.ones_like(ids))
        except Exception as error:
            raise CheckpointError(
                f"{folder} cannot be a teacher ({type(error).__name__}: {one_line(error)}). Take a Sentence "
                "Transformers folder with a transformer body, such as all-MiniLM-L6-v2."
            ) from error
        self.width = int(vector.shape[1])
        mean = mean_pooled(states[-1], torch.ones_like(ids))
        self.tokenwise = mean.shape == vector.shape and torch.allclose(mean, vector, atol=1e-4)

    @property
    def body(self) -> Any:
        """The transformers model, in fp32 until :meth:`prepare`."""
        return self._body

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Hidden states (B, L, hidden) after the embeddings and after each layer, for ids and a mask (B, L)."""
        with torch.no_grad():
            own = ids if self._kept is None else self._kept[ids]
            output = self._body(input_ids=own, attention_mask=mask, output_hidden_states=True)
        return (*output.hidden_states[:-1], output.last_hidden_state)

    def vectors(self, last: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Unit vectors (B, width) of last hidden states (B, L, hidden), by the folder's pooling and dense layers."""
        features: dict[str, Any] = {"token_embeddings": last, "attention_mask": mask}
        with torch.no_grad():
            for module in self._head:
                features = module(features)
        return functional.normalize(features["sentence_embedding"].float(), dim=-1)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n_texts, width) of texts, by sentence-transformers."""
        vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def word_table(self, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Start of a student's word table, (vocab_size, hidden), and the way back to the teacher's states.

        The teacher's word vectors; a BERT's with its token type and mean position, through its first norm. A narrower
        student takes their principal axes (not centered); at the teacher's own width nothing is rotated. Rows are
        ``hidden / self.hidden`` as long on the mean as the teacher's after that norm; the axes, (self.hidden, hidden),
        make it good, because the student's last norm makes every token as long as the root of ``hidden``.
        """
        table = self._words().float()
        if hidden == self.hidden:
            axes = torch.eye(hidden)
        else:
            axes = torch.linalg.svd(table.T @ table)[0][:, :hidden]
        return table @ axes * math.sqrt(hidden / self.hidden), axes * math.sqrt(hidden / self.hidden)

    def prepare(self, *, bf16: bool, compiled: bool) -> None:
        """Keep the body in bf16 from now on (a student is a hundred times farther from it than bf16 is); compile it."""
        if bf16:
            self._body.to(torch.bfloat16)
        if compiled:
            self._body.forward = torch.compile(self._body.forward, dynamic=True)

    def _words(self) -> torch.Tensor:
        rows = slice(None) if self._kept is None else self._kept
        embeddings: Any = getattr(self._body, "embeddings", None)
        with torch.no_grad():
            if hasattr(embeddings, "word_embeddings") and hasattr(embeddings, "LayerNorm"):
                always = embeddings.position_embeddings.weight[:_POSITIONS].mean(0)
                if getattr(embeddings, "token_type_embeddings", None) is not None:
                    always = always + embeddings.token_type_embeddings.weight[0]
                vectors: torch.Tensor = embeddings.LayerNorm(embeddings.word_embeddings.weight[rows] + always)
            else:
                vectors = self._body.get_input_embeddings().weight[rows]
        return vectors.detach().cpu()


def _check_loaded(folder: Path, body: Any) -> None:
    """Transformers fills what it does not find with random numbers, and says so in a log alone."""
    from safetensors import safe_open

    stored: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            stored |= set(tensors.keys())
    names = [name for name, _ in body.named_parameters() if not name.startswith("pooler.")]
    lost = [name for name in names if not any(key == name or key.endswith(f".{name}") for key in stored)]
    lost = [name for name in lost if not any(name.endswith(f".{key}") for key in stored)]
    if stored and lost:
        raise ValueError(f"its safetensors have no {lost[0]!r}, which its configuration calls for")


def _load(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    return SentenceTransformer(
        str(folder),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"},  # eager: faster for short texts on a CPU
    )
