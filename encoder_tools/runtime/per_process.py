"""Encoders in other processes: the folder is sent instead of the session, and each process opens it once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from encoder_tools.errors import FingerprintError
from encoder_tools.protocols import TextEncoder

_KEPT_OPEN = 4


@lru_cache(maxsize=_KEPT_OPEN)
def reopened(
    open_encoder: Callable[..., TextEncoder], folder: str, fingerprint: str, settings: tuple[tuple[str, Any], ...]
) -> TextEncoder:
    """The encoder in ``folder``, opened by the first call of this process and shared by the following ones.

    :param fingerprint: that it had in the process which sent it.
    :param settings: names and values of the constructor's other arguments.
    :raises FingerprintError: if another model lies there by now.
    """
    encoder = open_encoder(folder, **dict(settings))
    if encoder.fingerprint != fingerprint:
        raise FingerprintError(
            f"The model in {folder} is {encoder.fingerprint}, it was {fingerprint} when it was sent to another "
            "process. Open it again."
        )
    return encoder
