"""Tensors that are not stored as they are needed: positions that Marian computes, word vectors that mBART scales.

The encoder's class would compute them too, but reports them as missing when it is loaded alone. So they are written
once, by the class's own function, in the dtype of the checkpoint, and treated as if they had been stored.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoder_tools.extraction.checkpoint import Checkpoint
from encoder_tools.model.tensor_files import TensorLocation, chunks, read_header

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
    header = {location.name: {"dtype": location.dtype, "shape": location.shape, "data_offsets": [0, location.size]}}
    encoded = json.dumps(header, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-(8 + len(encoded)) % 64)
    with path.open("wb") as out:
        out.write(len(encoded).to_bytes(8, "little") + encoded)
        for chunk in chunks(location):
            out.write(_times(chunk, location.dtype, factor))
    return next(read_header(path))


def _times(chunk: bytes, dtype: str, factor: float) -> bytes:
    if dtype == "BF16":
        numbers = (np.frombuffer(chunk, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32) * np.float32(factor)
        return (numbers.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    kind = {"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype]
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
