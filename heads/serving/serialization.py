"""Fitted heads on disk: ``head.json`` for what people read, ``head.safetensors`` for the numbers; never pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

import encoder_tools
from encoder_tools.errors import EncoderToolsError, FileCorruptError, FileMissingError, FingerprintError, InputError
from encoder_tools.io.files import checked_as, sha256_of, write_bytes, write_json
from encoder_tools.io.staging import staged_folder
from encoder_tools.io.versioned_json import read_versioned
from encoder_tools.model.embedding_space import check_sibling
from encoder_tools.protocols import TextEncoder
from heads.serving.abstention import Abstention
from heads.serving.calibration import Calibration, Link, Method
from heads.serving.fitted_head import FittedHead
from heads.serving.ood import OOD_METHODS, Scope
from heads.serving.scorers import SCORERS

_FORMAT = "encoder-tools head"
_FORMAT_VERSION = 3
_WITHOUT_CHECKSUM = 1  # earlier versions can be read: 1 had no checksum over its description,
_LINEAR_ONLY = 2  # 1 and 2 knew linear heads alone
_JSON_NAME = "head.json"
_TENSORS_NAME = "head.safetensors"
_SCORER, _CALIBRATION, _SCOPE = "", "calibration.", "scope."  # what the names of tensors begin with


class _Calibrated(msgspec.Struct, frozen=True):
    method: str
    factor: float


class _Abstention(msgspec.Struct, frozen=True, rename={"guarantee": "promise"}):  # files keep the earlier name
    below: float
    guarantee: str
    level: float
    confidence: float | None
    examples: int


class _Scope(msgspec.Struct, frozen=True):
    kinds: list[str]
    threshold: float
    accepts: float


class _Description(msgspec.Struct, frozen=True):
    """What is read of ``head.json``."""

    dim: int
    fingerprint: str | None
    labels: list[str | bool | int | float]
    sha256: dict[str, str]
    space: str | None = None
    kind: str = "linear"
    settings: dict[str, float] = {}
    link: str = "softmax"
    calibration: _Calibrated | None = None
    abstention: _Abstention | None = None
    scope: _Scope | None = None


class CanBeFitted(Protocol):
    """An estimator that gives what serving needs of it."""

    def to_fitted(self) -> FittedHead:
        """What serving needs."""


def save_head(head: FittedHead | CanBeFitted, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write a head to ``folder``, whole or not at all.

    :param head: a fitted head, or an estimator that was fitted.
    :param overwrite: replace what the folder holds.
    :raises InputError: if ``folder`` holds something and ``overwrite`` is false, or a label is not valid Unicode.
    :raises SaveError: if writing fails; what stood there before is untouched.

    Example:
        >>> import numpy as np
        >>> from heads import LinearHead, save_head
        >>> save_head(LinearHead().fit(np.eye(4, dtype=np.float32), list("aabb")), "head")
        >>> sorted(path.name for path in Path("head").iterdir())
        ['head.json', 'head.safetensors']
    """
    fitted = head if isinstance(head, FittedHead) else head.to_fitted()
    for label in fitted.labels:
        if isinstance(label, str) and any("\ud800" <= letter <= "\udfff" for letter in label):
            raise InputError(f"Label {label!a} holds a lone surrogate, expected valid Unicode. Rename the class.")
    with staged_folder(Path(folder), overwrite=overwrite) as staged:
        tensors = staged / _TENSORS_NAME
        write_bytes(tensors, save(_tensors(fitted)))
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

    Example:
        >>> import numpy as np
        >>> from heads import LinearHead, load_head, save_head
        >>> save_head(LinearHead().fit(np.eye(4, dtype=np.float32), list("aabb")), "head")
        >>> load_head("head").labels
        ('a', 'b')
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


def _tensors(head: FittedHead) -> dict[str, Any]:
    tensors = dict(head.scorer.tensors())
    tensors |= {_CALIBRATION + name: array for name, array in head.calibration.tensors().items()}
    if head.thresholds is not None:
        tensors["thresholds"] = head.thresholds
    if head.scope is not None:
        tensors |= {_SCOPE + "weights": head.scope.weights, _SCOPE + "centres": head.scope.centers}
        for number, part in enumerate(head.scope.parts):
            tensors |= {f"{_SCOPE}{number}.{name}": array for name, array in part.tensors().items()}
    return {name: np.array(array) for name, array in tensors.items()}  # contiguous: safetensors writes the buffer


def _description(head: FittedHead, tensors_sha256: str) -> dict[str, Any]:
    scope, abstention = head.scope, head.abstention
    return {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "kind": head.scorer.kind,
        "settings": head.scorer.settings(),
        "link": head.link,
        "dim": head.dim,
        "fingerprint": head.fingerprint,
        "space": head.space,
        "labels": list(head.labels),
        "calibration": {"method": head.calibration.method, "factor": float(head.calibration.factor)},
        "abstention": None if abstention is None else msgspec.to_builtins(_Abstention(**asdict(abstention))),
        "scope": None
        if scope is None
        else {"kinds": [p.kind for p in scope.parts], "threshold": scope.threshold, "accepts": scope.accepts},
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
    advice = "Point to a folder that save_head wrote, fit the head again, or upgrade encoder-tools."
    content = read_versioned(path, _FORMAT, (_WITHOUT_CHECKSUM, _LINEAR_ONLY, _FORMAT_VERSION), advice)
    _check_sum(path, content)
    described = checked_as(content, _Description, str(path))
    tensors = _read_tensors(folder / _TENSORS_NAME, described)
    try:
        head = _restored(described, tensors)
    except KeyError as error:
        raise FileCorruptError(f"{folder} holds no usable head: {error} is missing. Fit it again.") from None
    except (InputError, TypeError, ValueError, OverflowError) as error:
        raise FileCorruptError(f"{folder} holds no usable head: {error} Restore it or fit it again.") from None
    if head.dim != described.dim:
        raise FileCorruptError(f"{path} says dim {described.dim}, the weights have {head.dim}. Fit it again.")
    return head


def _restored(described: _Description, tensors: dict[str, Any]) -> FittedHead:
    """The head of what was read; raises what its parts raise, or KeyError for a part that is not there."""
    calibration, abstention = described.calibration or _Calibrated("temperature", 1.0), described.abstention
    grouped: dict[str, dict[str, Any]] = {_SCORER: {}, _CALIBRATION: {}, _SCOPE: {}}
    for name, array in tensors.items():
        prefix = next((p for p in (_CALIBRATION, _SCOPE) if name.startswith(p)), _SCORER)
        grouped[prefix][name.removeprefix(prefix)] = array
    thresholds = grouped[_SCORER].pop("thresholds", None)
    return FittedHead(
        SCORERS[described.kind].restore(grouped[_SCORER], described.settings),
        tuple(described.labels),
        described.fingerprint,
        described.space,
        cast(Link, described.link),
        Calibration(cast(Method, calibration.method), calibration.factor, **grouped[_CALIBRATION]),
        thresholds,
        None if abstention is None else Abstention(**msgspec.structs.asdict(abstention)),
        None if described.scope is None else _restored_scope(described.scope, grouped[_SCOPE]),
    )


def _restored_scope(described: _Scope, tensors: dict[str, Any]) -> Scope:
    parts = []
    for number, kind in enumerate(described.kinds):
        prefix = f"{number}."
        own = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
        parts.append(OOD_METHODS[kind].restore(own))
    return Scope(tuple(parts), tensors["weights"], tensors["centres"], described.threshold, described.accepts)


def _check_sum(path: Path, content: dict[str, Any]) -> None:
    version = content["format_version"]
    if version != _WITHOUT_CHECKSUM and content.get("checksum") != _checksum(content):
        raise FileCorruptError(f"{path} was changed after it was written. Restore the head or fit it again.")
    kind, known = content.get("kind"), list(SCORERS)
    if kind not in (["linear"] if content["format_version"] != _FORMAT_VERSION else known):
        raise FileCorruptError(
            f"{path} describes a head of kind {kind!r}, expected one of {', '.join(known)}. Upgrade encoder-tools."
        )


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
    wrong = [n for n, t in tensors.items() if t.dtype != (np.int32 if n in ("targets", "parent_of") else np.float32)]
    if wrong:
        raise FileCorruptError(f"{path} holds {wrong[0]} of a wrong type. Restore the head or fit it again.")
    return tensors
