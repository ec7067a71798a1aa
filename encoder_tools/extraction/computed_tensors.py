"""Tensors that are not stored as they are needed: positions that Marian computes, word vectors that mBART scales.

The encoder's class would compute them too, but reports them as missing when it is loaded alone. So they are written
once, by the class's own function, in the dtype of the checkpoint, and treated as if they had been stored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoder_tools.extraction.checkpoint import Checkpoint
from encoder_tools.model.tensor_files import Entry, TensorLocation, as_float32, chunks, header_bytes, read_header

if TYPE_CHECKING:
    import torch


def write_computed(source: Checkpoint, model: torch.nn.Module, path: Path, dtype: str) -> dict[str, TensorLocation]:
    """Write the tensors that the checkpoint leaves out because its class computes them.

    :param model: the source's class, on the meta device.
    :param path: safetensors file to write, if there are any.
    :param dtype: as torch names it.
    :return: their locations by the class's names.
    """
    import torch
    from safetensors.torch import save_file

    patterns = [re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_missing", None) or ()]
    made: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        create: Any = getattr(module, "create_weight", None)
        key = f"{name}.weight"
        if create is not None and key not in source.tensors and any(pattern.search(key) for pattern in patterns):
            made[key] = _computed(module, create, getattr(torch, dtype))
    if not made:
        return {}
    save_file(made, path)
    return {location.name: location for location in read_header(path)}


def write_scaled(location: TensorLocation, factor: float, path: Path) -> TensorLocation:
    """Write a tensor times a power of two, a megabyte at a time.

    :return: where it is.
    """
    with path.open("wb") as out:
        out.write(header_bytes({location.name: Entry(location.dtype, location.shape, location.size)}))
        for chunk in chunks(location):
            out.write(_times(chunk, location, factor))
    return next(read_header(path))


def _times(chunk: bytes, location: TensorLocation, factor: float) -> bytes:
    if location.dtype == "BF16":
        scaled = as_float32(chunk, location) * np.float32(factor)
        return (scaled.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    kind = {"F16": np.float16, "F32": np.float32, "F64": np.float64}[location.dtype]
    numbers = np.frombuffer(chunk, dtype=kind) * kind(factor)
    return bytes(numbers.tobytes())


def _computed(module: Any, create: Any, dtype: torch.dtype) -> torch.Tensor:
    """What the module's own function gives, which takes the shape and dtype from its weight."""
    import torch

    kept = module.weight
    module.weight = torch.nn.Parameter(torch.empty(kept.shape, dtype=dtype), requires_grad=False)
    try:
        value: torch.Tensor = create()
    finally:
        module.weight = kept
    return value.detach().clone().contiguous()
