"""A student that starts from an earlier one: its vocabulary, its shape and its weights.

A longer run need not begin at the word table again, and a team can teach the model that ships its own texts.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from encoder_tools.distillation.recipe import Recipe
from encoder_tools.distillation.student.model import Student
from encoder_tools.errors import CheckpointError, FileCorruptError, one_line
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.shipped import DEFAULT_MODEL, model_path
from encoder_tools.onnx_export.unpack import unpack

_FOLDER = "earlier"
_SIZES = ("num_attention_heads", "num_key_value_heads", "num_heads", "head_dim", "rms_norm_eps", "layer_norm_epsilon")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


class WarmStart:
    """A student folder with its weights as safetensors; one that ships as ONNX alone is unpacked into the work folder.

    :param name: "default", or a student's folder.
    :param work: folder of the run.
    :raises FileMissingError: if it is no model folder.
    :raises FileCorruptError: if one of its files is damaged.
    :raises ExportError: if it has neither safetensors nor an export that can be unpacked.
    """

    def __init__(self, name: str, root: Path, work: Path) -> None:
        self.folder = ModelFolder.open(model_path(name) if name == DEFAULT_MODEL else root / name)
        if not self.folder.weight_files:
            unpack(self.folder.path, work / _FOLDER, overwrite=True)
            self.folder = ModelFolder.open(work / _FOLDER)

    def digest(self) -> str:
        """Hash of its weights: a run that started from others is not continued."""
        return self.folder.weights_digest()[:32]

    def copy_tokenizer(self, folder: Path) -> Tokenizer:
        """Write its tokenizer into a folder, and read it.

        :raises FileCorruptError: if it cannot be read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name in _TOKENIZER_FILES:
                shutil.copy(self.folder.path / name, folder / name)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # noqa: BLE001 - the tokenizers package raises it plain
            raise FileCorruptError(
                f"{self.folder.path} has no tokenizer that can be read ({one_line(error)}). Take another student."
            ) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def take(self, student: Student, recipe: Recipe) -> None:
        """Copy its weights into a student of the same shape.

        :raises CheckpointError: if the shapes differ, or its modules are not a student's.
        """
        try:
            _check_sizes(self.folder, student)
            kinds = [module.kind for module in self.folder.modules]
            if kinds[1:] != ["Pooling", "Dense", "Normalize"]:
                raise ValueError(f"its modules are {', '.join(kinds)}, expected those that distill writes")
            weights = load_file(self.folder.path / "model.safetensors")
            dense = load_file(self.folder.modules[2].folder / "model.safetensors")
            student.body.load_state_dict(_without_shared(weights, student.body))
            student.dense.load_state_dict({"weight": dense["linear.weight"]})
        except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self.folder.path} cannot be started from ({one_line(error)[:300]}). Name a folder that distill "
                f"wrote, and give [student] its shape; asked for are {recipe.student.layers} layers of family "
                f"{recipe.student.family!r}."
            ) from error


def teachers_ids(tokenizer: Tokenizer, teacher: Path) -> NDArray[np.int64]:
    """The teacher's id of each of a student's pieces, int64 of shape (vocab_size,).

    :param teacher: the teacher's folder.
    :raises CheckpointError: if the teacher has no such piece.
    """
    whole = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    names = [str(tokenizer.id_to_token(id_)) for id_ in range(tokenizer.get_vocab_size())]
    ids = [whole.token_to_id(name) for name in names]
    unknown = [name for name, number in zip(names, ids, strict=True) if number is None]
    if unknown:
        raise CheckpointError(
            f"The earlier student has pieces that {teacher} does not know, such as {unknown[0]!r}. Name the "
            'teacher that it had, or set kind of [vocabulary] to "trained".'
        )
    return np.array(ids, dtype=np.int64)


def _check_sizes(folder: ModelFolder, student: Student) -> None:
    """What tensors of equal shape can still differ in."""
    config: Any = student.body.config
    for name in _SIZES:
        if name in folder.config and folder.config[name] != getattr(config, name, None):
            raise ValueError(f"its {name} is {folder.config[name]}, expected {getattr(config, name, None)}")


def _without_shared(weights: dict[str, torch.Tensor], body: Any) -> dict[str, torch.Tensor]:
    """Weights by the names of the body's state; a table that a body holds under two names is stored under one."""
    expected = body.state_dict()
    for name in sorted(expected.keys() - weights.keys()):
        same = (key for key in weights if key in expected and expected[key].data_ptr() == expected[name].data_ptr())
        weights.update((name, weights[key]) for key in [*same][:1])
    return weights
