"""A checkpoint on disk: the location of each tensor's bytes, without reading them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from encoder_tools.errors import CheckpointFamilyError, FileCorruptError, FileMissingError, one_line
from encoder_tools.io.files import open_regular, read_json

_CHUNK = 1 << 20
INDEX_NAME = "model.safetensors.index.json"
_HUB_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "tokenizer*", "merges*", "vocab*")
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "flax_model*", "tf_model*")


class TensorLocation(NamedTuple):
    """One tensor of a safetensors file.

    :ivar dtype: as safetensors names it, such as "BF16".
    :ivar start: offset of its first byte in the file.
    :ivar end: offset after its last byte.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


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
        for location in _read_header(file):
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


def _read_header(file: Path) -> Iterator[TensorLocation]:
    """Places of all tensors of a file, after the safetensors library has validated it (sizes, overlaps, length)."""
    with validated(file):
        pass
    with file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            yield TensorLocation(file, name, entry["dtype"], tuple(entry["shape"]), start, end)


@contextmanager
def validated(file: Path) -> Iterator[Any]:
    """Open a safetensors file for torch.

    :raises FileCorruptError: if it is truncated or not a safetensors file.
    """
    with open_regular(file):  # says what hinders reading, before the library says that the file is no good
        pass
    try:
        opened = safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise FileCorruptError(
            f"{file} is not a whole safetensors file ({one_line(error)}). Download it again."
        ) from None
    with opened as tensors:
        yield tensors


def chunks(location: TensorLocation) -> Iterator[bytes]:
    """The bytes of a tensor, a megabyte at a time.

    :raises FileCorruptError: if the file cannot be read, or ends inside the tensor.
    """
    with open_regular(location.file) as file:
        file.seek(location.start)
        left = location.size
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise FileCorruptError(f"{location.file} ended inside {location.name}. Download it again.")
            left -= len(chunk)
            yield chunk
