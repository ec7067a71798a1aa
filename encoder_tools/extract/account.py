"""Every tensor of the source accounted for: copied, renamed, or dropped with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from encoder_tools.errors import CheckpointTensorError
from encoder_tools.extract.checkpoint import Checkpoint, TensorPlace
from encoder_tools.families.base import ALIAS, LEFTOVER, Family, reason_to_drop

if TYPE_CHECKING:
    import torch

_SHOWN = 3
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Inventory:
    """The tensors of a checkpoint under the names of its class.

    :ivar places: place by the class's name; tied aliases point to the tensor they are tied to.
    :ivar names: the class's tensors without aliases: what has to go somewhere.
    :ivar spare: reason to leave it behind by name in the file, for stored copies of tied tensors and leftovers.
    """

    places: Mapping[str, TensorPlace]
    names: tuple[str, ...]
    spare: Mapping[str, str]


def take_inventory(checkpoint: Checkpoint, model: torch.nn.Module, family: Family, prefix: str) -> Inventory:
    """Compare a checkpoint with the class it was saved from, built on the meta device.

    :param prefix: prefix of the encoder's tensors in the class.
    :raises CheckpointTensorError: if tensors are missing, extra or misshapen, or tied copies in the encoder differ.
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tied: dict[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})
    found = {family.class_name_of(name, expected): place for name, place in checkpoint.tensors.items()}
    ignored = _ignorable(model, found)
    _refuse("extra", [name for name in found if name not in expected and name not in ignored], checkpoint)
    groups = _tied_groups(expected, tied)
    missing = [name for name in expected if not any(member in found for member in groups[name])]
    _refuse("missing", [name for name in missing if name not in tied], checkpoint)
    _check_shapes(found, expected, checkpoint)
    places = {name: found[next(member for member in groups[name] if member in found)] for name in expected}
    stored = [name for name in tied if name in found and found[name] != places[tied[name]]]
    _check_aliases(stored, found, places, tied, prefix)
    names = tuple(name for name in expected if name not in tied)
    spare = {found[name].name: ALIAS if name.startswith(prefix) else reason_to_drop(name) for name in stored}
    return Inventory(places, names, {**spare, **{found[name].name: LEFTOVER for name in ignored}})


def digest(place: TensorPlace) -> str:
    """SHA-256 of a tensor's bytes, read in chunks."""
    state = sha256()
    with place.file.open("rb") as file:
        file.seek(place.start)
        left = place.size
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                break
            state.update(chunk)
            left -= len(chunk)
    return state.hexdigest()


def _tied_groups(expected: Iterable[str], tied: Mapping[str, str]) -> dict[str, list[str]]:
    """For each name, the names under which its data may be stored, the tensor itself first."""
    groups: dict[str, list[str]] = {}
    for name in expected:
        root = tied.get(name, name)
        groups[name] = list(dict.fromkeys([root, *(alias for alias, other in tied.items() if other == root)]))
    return groups


def _ignorable(model: torch.nn.Module, found: Iterable[str]) -> list[str]:
    """Stored tensors that transformers itself passes over for this class (leftovers of old conversions)."""
    patterns = [re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    return [name for name in found if any(pattern.search(name) for pattern in patterns)]


def _check_shapes(
    found: Mapping[str, TensorPlace], expected: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint
) -> None:
    wrong = [
        f"{name} of shape {list(place.shape)}, expected {list(expected[name])}"
        for name, place in found.items()
        if name in expected and place.shape != expected[name]
    ]
    _refuse("misshapen", wrong, checkpoint)


def _check_aliases(
    stored: list[str],
    found: Mapping[str, TensorPlace],
    places: Mapping[str, TensorPlace],
    tied: Mapping[str, str],
    prefix: str,
) -> None:
    """A tied copy inside the encoder must equal the tensor that is kept; the decoder's and the head's are dropped."""
    for name in stored:
        if name.startswith(prefix) and digest(found[name]) != digest(places[tied[name]]):
            raise CheckpointTensorError(
                f"{name} should be the same tensor as {tied[name]}, but their bytes differ. The checkpoint is "
                "inconsistent: save it again from the model that made it."
            )


def _refuse(kind: str, names: list[str], checkpoint: Checkpoint) -> None:
    if names:
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise CheckpointTensorError(
            f"{checkpoint.folder} has {len(names)} {kind} tensor{'s' if len(names) > 1 else ''}: {shown}. The weights "
            "do not belong to this config.json; download or save the checkpoint again."
        )
