"""The base model of a run: located, unpacked if it is the shipped one, loaded for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from encoder_tools.errors import CheckpointError, InputError, one_line
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.shipped import DEFAULT_MODEL, model_path
from encoder_tools.training.recipe import Recipe

_NO_LIMIT = 512  # tokens, of a model that has no limit of its own


def base_folder(recipe: Recipe, root: Path, work: Path) -> ModelFolder:
    """The base model's folder; the shipped one, which holds only a graph, is unpacked into ``work``."""
    if recipe.base == DEFAULT_MODEL:
        from encoder_tools.onnx_export.unpack import unpack

        if not (work / "base" / "modules.json").is_file():
            work.mkdir(parents=True, exist_ok=True)
            unpack(DEFAULT_MODEL, work / "base")
        return ModelFolder.open(work / "base")
    return ModelFolder.open(root / model_path(recipe.base))


def longest_of(recipe: Recipe, base: ModelFolder) -> int:
    """Tokens kept of each text: the recipe's, else the model's own limit."""
    return recipe.training.longest or base.max_length or _NO_LIMIT


def load_trainable(folder: Path, device: str) -> tuple[Any, ModelFolder]:
    """A model as sentence-transformers has it, in fp32, and its folder.

    :raises FileMissingError: if the folder is not there.
    :raises FileCorruptError: if its description is damaged.
    :raises CheckpointError: if sentence-transformers cannot load it.
    """
    checked = ModelFolder.open(folder)
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"},
        )
    except Exception as error:
        raise CheckpointError(
            f"sentence-transformers cannot load {folder} ({type(error).__name__}: {one_line(error)}). For an "
            "encoder-decoder checkpoint, run encoder-tools extract first."
        ) from error
    return model, checked


def check_fit(recipe: Recipe, base: ModelFolder) -> None:
    """What a recipe asks of its base.

    :raises InputError: if the base cannot give it.
    """
    wide = [dim for dim in recipe.objective.dims if dim > base.dim]
    if wide:
        raise InputError(f"dims of [objective] has {wide[0]}, but the base's vectors are {base.dim} wide.")
    if base.max_length is not None and recipe.training.longest > base.max_length:
        raise InputError(
            f"longest is {recipe.training.longest}, but the base reads {base.max_length} tokens. Lower it."
        )
