"""How well a model agrees with another one of its embedding space, and the file that records it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from encoder_tools.errors import FileMissingError, InputError
from encoder_tools.evaluation.torch_encoder import TorchEncoder
from encoder_tools.model.embedding_space import Agreement, agreement_of, write_space
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.shipped import model_path
from encoder_tools.runtime import OnnxEncoder


def record_agreement(model: str | Path, root: str | Path, texts: Sequence[str]) -> Agreement:
    """Measure how well ``model`` agrees with ``root`` and write it to the model's ``space.json``.

    Each is run from its export where it has one, else with torch.

    :param texts: that neither was trained to agree on.
    :raises InputError: if there are no texts, the widths differ, or the two are not of one space.
    :raises FileMissingError: if a folder is not there.
    :raises FileCorruptError: if one is damaged.
    """
    if not texts:
        raise InputError("There are no texts to compare the models on. Name a file with one text per line.")
    ours, theirs = open_encoder(model), open_encoder(root)
    if ours.dim != theirs.dim:
        raise InputError(f"{model} is {ours.dim} wide, {root} is {theirs.dim}: they are not of one space.")
    agreement = agreement_of(ours.encode(texts), theirs.encode(texts))
    write_space(model_path(model), ours.fingerprint, theirs.space, agreement)
    return agreement


def open_encoder(model: str | Path) -> OnnxEncoder | TorchEncoder:
    """A model from its export where it has one, else with torch; errors as :func:`record_agreement`."""
    folder = ModelFolder.open(model_path(model))
    try:
        return OnnxEncoder(model)
    except FileMissingError:
        if not folder.weight_files:
            raise
    return TorchEncoder(folder.path)
