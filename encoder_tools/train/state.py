"""The state of a run on disk: weights, moments and the step in one file, so that they are never of different steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from encoder_tools.errors import FileCorruptError, FingerprintError
from encoder_tools.files import write_bytes


def save_state(
    path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, settings: str, step: int
) -> None:
    """Write the state atomically.

    :param settings: what the run depends on; :func:`restore_state` refuses a state of others.
    :raises SaveError: if the disk is full; the state before stays whole.
    """
    tensors = {f"weight.{name}": value.detach().cpu().contiguous() for name, value in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value.detach().cpu()
    write_bytes(path, save(tensors, metadata={"settings": settings, "step": str(step)}))


def restore_state(
    path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, settings: str
) -> int:
    """Read a state into parameters and optimizer, in place.

    :return: steps that are done; 0 if there is no state.
    :raises FileCorruptError: if the file is damaged.
    :raises FingerprintError: if it was made with other settings.
    """
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
        step = int(metadata["step"])
        found = metadata["settings"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FileCorruptError(f"{path} is no state of a run ({error}). Remove it to begin again.") from None
    if found != settings:
        raise FingerprintError(
            f"{path} was made with other settings, texts or vocabulary ({found}; now {settings}). Continue with its "
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
    return step
