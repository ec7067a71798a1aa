"""Checkpoints: weights, optimizer moments and the step in one file, so that they always belong together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from encoder_tools.errors import FileCorruptError, FingerprintError
from encoder_tools.io.files import write_bytes


class Progress(NamedTuple):
    """How far a run is.

    :ivar step: steps that are done.
    :ivar best: best quality that was measured, and ``best_step``, after how many steps; None before the first.
    :ivar stopped: whether it was ended early.
    :ivar seconds: spent on it, over all calls: on its steps, its measurements and its states.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    stopped: bool = False
    seconds: float = 0.0


def save_weights(path: Path, parameters: Mapping[str, nn.Parameter]) -> None:
    """Write weights alone, atomically."""
    write_bytes(path, save({name: value.detach().cpu().contiguous() for name, value in parameters.items()}))


def restore_weights(path: Path, parameters: Mapping[str, nn.Parameter]) -> None:
    """Read what :func:`save_weights` wrote.

    :raises FileCorruptError: if the file is damaged or of another model.
    """
    try:
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name])
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        raise FileCorruptError(f"{path} does not hold the weights of this run ({error}). Begin again.") from None


def save_state(
    path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, settings: str, at: Progress
) -> None:
    """Write the state atomically.

    :param settings: what the run depends on; :func:`restore_state` refuses a state of others.
    :raises SaveError: if the disk is full; the state before stays whole.
    """
    tensors = {f"weight.{name}": value.detach().cpu().contiguous() for name, value in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value.detach().cpu()
    write_bytes(path, save(tensors, metadata={"settings": settings, "progress": msgspec.json.encode(at).decode()}))


def restore_state(
    path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, settings: str
) -> Progress:
    """Read a state into parameters and optimizer, in place.

    :return: how far the run is; at its beginning if there is no state.
    :raises FileCorruptError: if the file is damaged.
    :raises FingerprintError: if it was made with other settings.
    """
    if not path.is_file():
        return Progress()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
        saved, at = metadata["settings"], msgspec.json.decode(metadata["progress"], type=Progress)
    except (SafetensorError, OSError, KeyError, ValueError, msgspec.DecodeError) as error:
        raise FileCorruptError(f"{path} is no state of a run ({error}). Remove it to begin again.") from None
    if saved != settings:
        raise FingerprintError(
            f"{path} was made with other settings, texts or vocabulary ({saved}; now {settings}). Continue with its "
            "own recipe, or use another work folder."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weight.{name}"])
            prefix = f"optimizer.{name}."
            moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in moments.items()
            }
    return at
