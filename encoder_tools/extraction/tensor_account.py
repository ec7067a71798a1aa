"""Every tensor of the source accounted for: copied, renamed, or dropped with a reason."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from encoder_tools.errors import CheckpointTensorError
from encoder_tools.extraction.checkpoint import Checkpoint
from encoder_tools.families.family import ALIAS, LEFTOVER, LM_HEAD, Family
from encoder_tools.model.tensor_files import TensorLocation, chunks

if TYPE_CHECKING:
    import torch

_SHOWN = 3


@dataclass(frozen=True)
class Inventory:
    """The tensors of a checkpoint under the names of its class.

    :ivar locations: location by the class's name; tied aliases point to the tensor they are tied to.
    :ivar names: the class's tensors without aliases: what has to go somewhere.
    :ivar spare: reason to leave it behind by name in the file, for tensors beyond those of ``names``.
    """

    locations: Mapping[str, TensorLocation]
    names: tuple[str, ...]
    spare: Mapping[str, str]


def take_inventory(
    checkpoint: Checkpoint,
    model: torch.nn.Module,
    family: Family,
    computed: Mapping[str, TensorLocation] | None = None,
) -> Inventory:
    """Compare a checkpoint with the class it was saved from, built on the meta device.

    :param computed: by the class's name, tensors that no checkpoint stores, because the class computes them.
    :raises CheckpointTensorError: if tensors are missing, extra, misshapen or quantized, or tied copies differ.
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tied: dict[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})
    tensors = _by_class_name(checkpoint, family, expected)
    tensors = {**(computed or {}), **tensors}
    ignored = _ignorable(model, tensors)
    _refuse("extra", [name for name in tensors if name not in expected and name not in ignored], checkpoint)
    holders = {name: _holders(name, tied) for name in expected}
    needed = [name for name in expected if name not in tied or _stands_alone(name, checkpoint.config)]
    missing = [name for name in needed if not any(holder in tensors for holder in holders[name])]
    _refuse("missing", missing, checkpoint)
    _check_shapes(tensors, expected, checkpoint)
    locations = {
        name: tensors[next(holder for holder in [*holders[name], name] if holder in tensors)]
        for name in expected
        if any(holder in tensors for holder in [*holders[name], name])
    }
    spare = {tensors[name].name: LEFTOVER for name in ignored}
    spare |= _judge_aliases([name for name in tied if name in tensors], tensors, locations, tied)
    return Inventory(locations, tuple(name for name in expected if name not in tied), spare)


def torch_dtype(location: TensorLocation) -> torch.dtype:
    """The dtype of a stored tensor.

    :raises CheckpointTensorError: if it is not a floating-point number of 16 bits or more.
    """
    import torch

    known = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    if location.dtype not in known:
        raise CheckpointTensorError(
            f"{location.name} is stored as {location.dtype}, expected one of {', '.join(known)}. Extract from the "
            "checkpoint "
            "before it was quantized."
        )
    return known[location.dtype]


def digest(location: TensorLocation) -> str:
    """SHA-256 of a tensor's bytes, read in chunks."""
    state = sha256()
    for chunk in chunks(location):
        state.update(chunk)
    return state.hexdigest()


def _by_class_name(checkpoint: Checkpoint, family: Family, expected: Container[str]) -> dict[str, TensorLocation]:
    """The file's tensors under their class's names; two that claim one name are refused."""
    tensors: dict[str, TensorLocation] = {}
    twice = []
    for name, location in checkpoint.tensors.items():
        ours = name if name in expected else family.class_name_of(name)
        if ours in tensors:
            twice.append(f"{name} (the same as {tensors[ours].name})")
        tensors[ours] = location
    _refuse("extra", twice, checkpoint)
    return tensors


def _holders(name: str, tied: Mapping[str, str]) -> list[str]:
    """The names under which a tensor's data may be stored, the tensor itself first.

    A head never stands in for the word table: in T5 v1.1 and mT5 it is another matrix, although transformers 5 calls it
    tied.
    """
    if _is_head(name):
        return [name]
    root = tied.get(name, name)
    aliases = (alias for alias, other in tied.items() if other == root and not _is_head(alias))
    return list(dict.fromkeys([root, *aliases]))


def _is_head(name: str) -> bool:
    return name.startswith("lm_head.")


def _stands_alone(name: str, config: Mapping[str, Any]) -> bool:
    """Whether this is a head with weights of its own (T5 v1.1, mT5, UMT5 as they lie on the hub)."""
    return _is_head(name) and config.get("tie_word_embeddings") is False


def _ignorable(model: torch.nn.Module, names: Iterable[str]) -> list[str]:
    """Stored tensors that transformers itself passes over for this class (spare of old conversions)."""
    patterns = [re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    return [name for name in names if any(pattern.search(name) for pattern in patterns)]


def _check_shapes(
    tensors: Mapping[str, TensorLocation], expected: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint
) -> None:
    wrong = [
        f"{location.name} of shape {list(location.shape)}, expected {list(expected[name])}"
        for name, location in tensors.items()
        if name in expected and location.shape != expected[name]
    ]
    _refuse("misshapen", wrong, checkpoint)
    for location in tensors.values():
        torch_dtype(location)


def _judge_aliases(
    stored: Iterable[str],
    tensors: Mapping[str, TensorLocation],
    locations: Mapping[str, TensorLocation],
    tied: Mapping[str, str],
) -> dict[str, str]:
    """Why copies of tied tensors are left behind, by name in the file. Copies of a word table must equal it."""
    reasons = {}
    for name in stored:
        copy, kept = tensors[name], locations.get(tied[name])
        if copy == kept:
            continue
        if kept is not None and digest(copy) == digest(kept):
            reasons[copy.name] = ALIAS
        elif _is_head(name):
            reasons[copy.name] = LM_HEAD
        else:
            raise CheckpointTensorError(
                f"{copy.name} should be the same tensor as {tied[name]}, but their bytes differ. The checkpoint is "
                "inconsistent: save it again from the model that made it."
            )
    return reasons


def _refuse(kind: str, names: list[str], checkpoint: Checkpoint) -> None:
    if names:
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise CheckpointTensorError(
            f"{checkpoint.folder} has {len(names)} {kind} tensor{'s' if len(names) > 1 else ''}: {shown}. The weights "
            "do not belong to this config.json; download or save the checkpoint again."
        )
