"""The whole sentence-transformers pipeline as one torch module with tensors in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from encoder_tools.errors import ExportError
from encoder_tools.model_folder import ModelFolder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_KNOWN_MODULES = ("Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
_UNSUPPORTED_SETTINGS = ("query_length", "document_length", "query_expansion", "do_lower_case")


class Pipeline(torch.nn.Module):
    """Body, then the folder's own pooling, dense and normalise modules, unchanged.

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
    _check_supported(folder)
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    settings: dict[str, Any] = {"dtype": torch.float32}
    if attention is not None:
        settings["attn_implementation"] = attention
    try:
        model = SentenceTransformer(
            str(folder.path), device="cpu", model_kwargs=settings, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ExportError(
            f"sentence-transformers cannot load {folder.path}: {str(error).splitlines()[0]}. Repair the model first."
        ) from error
    return model.eval()


def _check_supported(folder: ModelFolder) -> None:
    for module in folder.modules[1:]:
        if module.kind not in _KNOWN_MODULES:
            raise ExportError(
                f"{folder.path} has a module of type {module.kind}; one graph can hold {', '.join(_KNOWN_MODULES)}."
            )
        if module.kind == "Pooling" and module.config.get("include_prompt") is False:
            raise ExportError(
                f"{folder.path} leaves the prompt out of its pooling (include_prompt: false), which a graph of token "
                "ids cannot do. Train or configure the model with include_prompt: true."
            )
    for setting in _UNSUPPORTED_SETTINGS:
        if folder.modules[0].config.get(setting):
            raise ExportError(f"{folder.path}/sentence_bert_config.json sets {setting!r}, which the graph cannot hold.")
