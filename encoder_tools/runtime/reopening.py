"""Encoders in other processes: what is sent there is where the model lies, and each process opens it once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from encoder_tools.errors import FingerprintError

if TYPE_CHECKING:
    from encoder_tools.runtime.encoder import OnnxEncoder

_KEPT_OPEN = 4


@lru_cache(maxsize=_KEPT_OPEN)
def reopened(kind: type[OnnxEncoder], folder: str, fingerprint: str, settings: tuple[tuple[str, Any], ...]) -> Any:
    """The encoder in ``folder``, opened by the first call of this process and shared by the following ones.

    :param fingerprint: that it had in the process which sent it.
    :param settings: names and values of the constructor's other arguments.
    :raises FingerprintError: if another model lies there by now.
    """
    encoder = kind(folder, **dict(settings))
    if encoder.fingerprint != fingerprint:
        raise FingerprintError(
            f"The model in {folder} is {encoder.fingerprint}, it was {fingerprint} when it was sent to another "
            "process. Open it again."
        )
    return encoder
