"""Device and precision of a run, and texts as tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from encoder_tools.errors import InputError

Ids = NDArray[np.int32]
"""Token ids of a text, special tokens included."""


def checked_device(name: str, processes: int = 1) -> torch.device:
    """The device of this name.

    :param processes: that it is for; on GPUs, one for each.
    :raises InputError: if it is neither "cpu" nor "cuda", or torch finds no GPU, or too few.
    """
    if processes < 1 or (name == "cuda" and processes > max(1, torch.cuda.device_count())):
        raise InputError(f"processes is {processes}, expected 1 or more, and at most one for each GPU.")
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device is {name!r}, expected 'cpu', or 'cuda' where torch finds a GPU.")
    return torch.device(name)


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether a recipe's precision means bf16: "bf16" does, "fp32" does not, "auto" does on a GPU."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def bf16_products(precision: str, device: torch.device) -> torch.autocast:
    """Context in which matrix products have a recipe's precision; see :func:`uses_bf16`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision, device))


def hash_ids(state: hashlib._Hash, texts: Iterable[Ids]) -> None:
    """Add texts to a hash, each with its length, so that two lists of texts differ wherever one text ends."""
    for row in texts:
        state.update(len(row).to_bytes(4, "little") + row.tobytes())


def padded(
    texts: Sequence[Ids], device: torch.device, *, pad_id: int = 0, multiple: int = 1, longest: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, int64 of shape (B, L), padded on the right.

    :param multiple: that L is brought to, but not above ``longest``.
    """
    length = max(map(len, texts))
    length += -length % multiple
    ids = np.full((len(texts), length if longest is None else min(longest, length)), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for line, row in enumerate(texts):
        ids[line, : len(row)] = row
        mask[line, : len(row)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
