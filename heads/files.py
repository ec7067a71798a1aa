"""Fitted heads on disk: ``head.json`` for what people read, ``head.safetensors`` for the numbers; never pickle."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

import encoder_tools
from encoder_tools.errors import EncoderToolsError, FileCorruptError, FileMissingError, FingerprintError, InputError
from encoder_tools.files import checked_as, read_json, sha256_of, write_bytes, write_json
from encoder_tools.protocols import TextEncoder
from encoder_tools.spaces import check_sibling
from encoder_tools.staging import staged_folder
from heads.fitted import FittedHead

if TYPE_CHECKING:
    from heads.linear import LinearHead

_FORMAT = "encoder-tools head"
_FORMAT_VERSION = 2
_WITHOUT_CHECKSUM = 1  # an earlier version that can be read: its description is not under a checksum
_JSON_NAME = "head.json"
_TENSORS_NAME = "head.safetensors"


class _Description(msgspec.Struct, frozen=True):
    """What is read of ``head.json``."""

    dim: int
    fingerprint: str | None
    labels: list[str | bool | int | float]
    sha256: dict[str, str]
    space: str | None = None


def save_head(head: FittedHead | LinearHead, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write a head to ``folder``, whole or not at all.

    :raises InputError: if ``folder`` holds something and ``overwrite`` is false, or a label is not valid Unicode.
    :raises SaveError: if writing fails; what stood there before is untouched.
    """
    fitted = head if isinstance(head, FittedHead) else head.to_fitted()
    for label in fitted.labels:
        if isinstance(label, str) and any("\ud800" <= letter <= "\udfff" for letter in label):
            raise InputError(f"Label {label!a} holds a lone surrogate, expected valid Unicode. Rename the class.")
    with staged_folder(Path(folder), overwrite=overwrite) as staged:
        tensors = staged / _TENSORS_NAME
        write_bytes(tensors, save({"weights": fitted.weights, "bias": fitted.bias}))
        described = _description(fitted, sha256_of(tensors))
        write_json(staged / _JSON_NAME, described | {"checksum": _checksum(described)})


def load_head(
    folder: str | Path,
    *,
    fingerprint: str | None = None,
    encoder: TextEncoder | None = None,
    allow_sibling: bool = False,
) -> FittedHead:
    """Read a head that :func:`save_head` wrote. The files are not trusted; nothing in them is executed.

    :param fingerprint: of the model whose vectors the head will get; None skips the check.
    :param encoder: that model itself, instead of its fingerprint.
    :param allow_sibling: take an encoder of the space that the head was fitted in, if it is not the head's own model.
    :raises FileMissingError: if the folder or one of its two files is not there.
    :raises FileCorruptError: if a file is truncated, altered, of another kind or of a later format.
    :raises FingerprintError: if the head was fitted on vectors of another model, or of an unknown one.
    """
    folder = Path(folder)
    try:
        head = _read(folder)
    except EncoderToolsError:
        raise
    except OSError as error:
        raise FileCorruptError(
            f"{folder} cannot be read: {error.strerror}. Restore the head or fit it again."
        ) from None
    if encoder is not None and head.fingerprint is not None:
        root = head.space or head.fingerprint
        check_sibling(
            f"The head in {folder}",
            head.fingerprint,
            root,
            encoder,
            allow=allow_sibling,
            again="fit the head again with this one",
        )
        return head
    fingerprint = encoder.fingerprint if encoder is not None else fingerprint
    if fingerprint is not None and head.fingerprint != fingerprint:
        made_with = f"model {head.fingerprint}" if head.fingerprint else "vectors of an unknown model"
        raise FingerprintError(
            f"The head in {folder} was fitted on {made_with}, the encoder is {fingerprint}. "
            "Use the head's own model, or fit the head again with this one."
        )
    return head


def _description(head: FittedHead, tensors_sha256: str) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "kind": "linear",
        "dim": head.dim,
        "fingerprint": head.fingerprint,
        "space": head.space,
        "labels": list(head.labels),
        "sha256": {_TENSORS_NAME: tensors_sha256},
        "versions": {
            "encoder-tools": encoder_tools.__version__,
            "numpy": np.__version__,
            "scikit-learn": version("scikit-learn"),
        },
    }


def _checksum(described: dict[str, Any]) -> str:
    """SHA-256 of the description, the checksum itself left out: of its JSON with sorted keys and without spaces.

    The description holds the digest of the tensors, so that one checksum is over everything.
    """
    content = {name: value for name, value in described.items() if name != "checksum"}
    written = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()


def _read(folder: Path) -> FittedHead:
    path = folder / _JSON_NAME
    if not folder.is_dir():
        raise FileMissingError(f"{folder} is not a folder, expected one that save_head wrote.")
    content = read_json(path)
    _check_format(path, content)
    described = checked_as(content, _Description, str(path))
    tensors = _read_tensors(folder / _TENSORS_NAME, described)
    try:
        head = FittedHead(
            tensors["weights"], tensors["bias"], tuple(described.labels), described.fingerprint, described.space
        )
    except (InputError, TypeError, OverflowError) as error:
        raise FileCorruptError(f"{folder} holds no usable head: {error} Restore it or fit it again.") from None
    if head.dim != described.dim:
        raise FileCorruptError(f"{path} says dim {described.dim}, the weights have {head.dim}. Fit it again.")
    return head


def _check_format(path: Path, described: dict[str, Any]) -> None:
    if described.get("format") != _FORMAT or described.get("kind") != "linear":
        raise FileCorruptError(f"{path} does not describe a linear {_FORMAT}. Point to a folder that save_head wrote.")
    found = described.get("format_version")
    if isinstance(found, bool) or found not in (_WITHOUT_CHECKSUM, _FORMAT_VERSION):
        raise FileCorruptError(
            f"{path} has format version {found!r}, this encoder-tools reads {_WITHOUT_CHECKSUM} and {_FORMAT_VERSION}. "
            "Upgrade encoder-tools or fit the head again."
        )
    if found != _WITHOUT_CHECKSUM and described.get("checksum") != _checksum(described):
        raise FileCorruptError(f"{path} was changed after it was written. Restore the head or fit it again.")


def _read_tensors(path: Path, described: _Description) -> dict[str, Any]:
    if not path.exists():
        raise FileMissingError(f"{path} does not exist. Restore the head or fit it again.")
    if described.sha256.get(_TENSORS_NAME) != sha256_of(path):
        raise FileCorruptError(f"{path} is not the file that {_JSON_NAME} describes. Restore the head or fit it again.")
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FileCorruptError(
            f"{path} is not a safetensors file ({error}). Restore the head or fit it again."
        ) from None
    if set(tensors) != {"weights", "bias"} or any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise FileCorruptError(f"{path} does not hold float32 weights and bias. Restore the head or fit it again.")
    return tensors
