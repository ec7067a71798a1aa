"""A checkpoint on disk: the location of each tensor's bytes, without reading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder_tools.errors import CheckpointFamilyError, FileCorruptError, FileMissingError, one_line
from encoder_tools.io.files import read_json
from encoder_tools.model.tensor_files import TensorLocation, read_header

INDEX_NAME = "model.safetensors.index.json"
_HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "tokenizer*", "merges*", "vocab*")
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "flax_model*", "tf_model*")


@dataclass(frozen=True)
class Checkpoint:
    """A local checkpoint folder with its tensors located.

    :ivar folder: where it is.
    :ivar config: the parsed ``config.json``.
    :ivar tensors: place by the name in the file.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorLocation]


def locate(checkpoint: str | Path, revision: str | None) -> Path:
    """Local folder of a checkpoint; a hub id is downloaded (weights as safetensors only) into the hub's cache.

    :raises FileMissingError: if it is neither a local folder nor a repository that can be reached.
    """
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    text = str(checkpoint)
    if text.startswith((".", "/", "~")) or text.count("/") > 1 or Path(checkpoint).exists():
        raise FileMissingError(f"{checkpoint} is not a folder. Pass a checkpoint folder or a hub id such as org/name.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(text, revision=revision, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = one_line(error)
        raise FileMissingError(
            f"{text!r} is no local folder, and the hub did not give it ({type(error).__name__}: {reason}). "
            "Check the name, the revision, the network and, for a gated model, HF_TOKEN."
        ) from None


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read ``config.json`` and the headers of all weight files.

    :raises FileMissingError: if ``config.json`` or a shard is missing.
    :raises FileCorruptError: if a file is damaged.
    :raises CheckpointFamilyError: if the weights are not safetensors.
    """
    config = read_json(folder / "config.json")
    tensors: dict[str, TensorLocation] = {}
    for file in _weight_files(folder):
        for location in read_header(file):
            if location.name in tensors:
                raise FileCorruptError(
                    f"{location.name} is in both {tensors[location.name].file.name} and {file.name}. Download "
                    f"{folder} again."
                )
            tensors[location.name] = location
    return Checkpoint(folder, config, tensors)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX_NAME).is_file():
        return _shards(folder)
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise CheckpointFamilyError(
            f"{folder} holds its weights only as {pickles[0]}, which can run code when it is opened. Convert it once: "
            "AutoModelForSeq2SeqLM.from_pretrained(folder).save_pretrained(out) writes safetensors; for a hub id, try "
            "--revision refs/pr/1, where the hub's bot often left them."
        )
    raise FileMissingError(
        f"{folder} has no model.safetensors and no {INDEX_NAME}. Download the weights; a hub repository that has only "
        "pytorch_model.bin often has safetensors under --revision refs/pr/1, left there by the hub's bot."
    )


def _shards(folder: Path) -> list[Path]:
    mapping = read_json(folder / INDEX_NAME).get("weight_map")
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping.values()):
        raise FileCorruptError(
            f"{folder / INDEX_NAME} has no weight_map of tensor names to file names. Download it again."
        )
    names = sorted(set(mapping.values()))
    for name in names:
        if Path(name).name != name:
            raise FileCorruptError(f"{folder / INDEX_NAME} points to {name!r}, expected a plain file name.")
        if not (folder / name).is_file():
            raise FileMissingError(f"{folder / name} is named in {INDEX_NAME} but is not there. Download the shard.")
    return [folder / name for name in names]
