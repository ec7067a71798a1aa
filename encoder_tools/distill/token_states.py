"""A BERT teacher, seen token by token: its word table after the first norm, and its hidden states."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encoder_tools.errors import CheckpointError, one_line

_POSITIONS = 32  # whose mean stands for all positions in the student's word table


class TokenTeacher:
    """The body of a Sentence Transformers teacher that pools by the mean.

    :param folder: the teacher.
    :param kept: the teacher's id of each of the student's pieces, of shape (vocab_size,).
    :raises CheckpointError: if transformers cannot load it as a BERT.
    """

    def __init__(self, folder: Path, kept: NDArray[np.int64], device: torch.device) -> None:
        from transformers import AutoModel

        try:
            body: Any = AutoModel.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, attn_implementation="eager"
            )
            embeddings = body.embeddings
            self.layers, self.width = int(body.config.num_hidden_layers), int(body.config.hidden_size)
            always = embeddings.position_embeddings.weight[:_POSITIONS].mean(0)
            always = always + embeddings.token_type_embeddings.weight[0]
            words = embeddings.word_embeddings.weight[torch.from_numpy(kept)]
            self._table = embeddings.LayerNorm(words + always).detach()
        except Exception as error:
            raise CheckpointError(
                f"{folder} cannot be a token-by-token teacher ({type(error).__name__}: {one_line(error)}). Take a "
                "Sentence Transformers folder whose body is a BERT, such as all-MiniLM-L6-v2."
            ) from error
        self._body = body.eval().requires_grad_(False).to(device)
        self._kept = torch.from_numpy(kept).to(device)

    def word_table(self, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Start of a Gemma student's word table, and the way back to the teacher's space.

        The teacher's word vectors with its token type and mean position, through its first norm. A narrower student
        takes their ``hidden`` principal axes (not centred); at the teacher's own width nothing is rotated.

        :return: the table, (vocab_size, hidden), over the root of the width because Gemma multiplies by the root of its
            own; and the axes, (width, hidden). The student's norm makes every token as long as the root of ``hidden``,
            the teacher's as the root of its width, which the axes make good.
        """
        if hidden == self.width:
            axes = torch.eye(hidden)
        else:
            axes = torch.linalg.svd(self._table.T @ self._table)[0][:, :hidden]
        return self._table @ axes / math.sqrt(self.width), axes * math.sqrt(hidden / self.width)

    def prepare(self, *, bf16: bool, compiled: bool) -> None:
        """Keep the body in bf16 from now on (a student is a hundred times farther from it than bf16 is); compile it."""
        if bf16:
            self._body.to(torch.bfloat16)
        if compiled:
            self._body.forward = torch.compile(self._body.forward, dynamic=True)

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Hidden states (B, L, width) after the embeddings and after each layer, for the student's ids (B, L)."""
        with torch.no_grad():
            output = self._body(input_ids=self._kept[ids], attention_mask=mask, output_hidden_states=True)
        return tuple(output.hidden_states)
