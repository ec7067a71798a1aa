"""The whole sentence-transformers pipeline as one torch module with tensors in and out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from encoder_tools.errors import ExportError, is_out_of_memory, one_line
from encoder_tools.model.model_folder import ModelFolder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Pipeline(torch.nn.Module):
    """Body, then the folder's own pooling, dense and normalize modules, unchanged.

    Reusing sentence-transformers' modules is what makes the graph theirs and not an imitation of them.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.body = model[0].model
        self.head = torch.nn.ModuleList(list(model)[1:])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token embeddings of shape (B, L, H) and sentence embeddings of shape (B, D)."""
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        features: dict[str, Any] = {"token_embeddings": hidden, "attention_mask": attention_mask}
        for module in self.head:
            features = module(features)
        return hidden, features["sentence_embedding"]


def load_model(folder: ModelFolder, attention: str | None) -> SentenceTransformer:
    """Load a folder with sentence-transformers on the CPU in fp32, ready to be exported.

    :raises ExportError: if the folder has a module or a setting that a single graph cannot hold.
    """
    reason = folder.unsupported()
    if reason is not None:
        raise ExportError(f"{folder.path} {reason}.")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    settings: dict[str, Any] = {"dtype": torch.float32}
    if attention is not None:
        settings["attn_implementation"] = attention
    with _as_export_error(folder, "load"):
        model = SentenceTransformer(
            str(folder.path), device="cpu", model_kwargs=settings, local_files_only=True, trust_remote_code=False
        )
    if folder.max_length is not None:
        model.max_seq_length = folder.max_length  # never above what its table of positions holds
    table = _word_table(model[0].model)
    ids = max(model.tokenizer.get_vocab().values(), default=0)
    if table is not None and ids >= len(table.weight):
        raise ExportError(
            f"The tokenizer in {folder.path} gives ids up to {ids}, but the word table has {len(table.weight)} rows. "
            "It is another model's tokenizer; use the one that was saved with these weights."
        )
    with _as_export_error(folder, "encode a text with"):
        model.eval().encode(["a"], show_progress_bar=False)
    return model


def _word_table(body: Any) -> Any:
    """The table of word vectors, or None: not every class says where it has it."""
    try:
        return body.get_input_embeddings()
    except NotImplementedError:
        return None


@contextmanager
def _as_export_error(folder: ModelFolder, what: str) -> Iterator[None]:
    """A damaged file can fail anywhere in the libraries, when it is read or when it is first used."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise ExportError(f"There is not enough memory to {what} {folder.path} ({one_line(error)}).") from error
        raise ExportError(
            f"sentence-transformers cannot {what} {folder.path} ({type(error).__name__}: {one_line(error)}). Repair "
            "the model first: SentenceTransformer(folder) must load it and encode."
        ) from error
