"""Where a collection meets its model: may it be this one, and vectors of texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder
from encoder_tools.spaces import check_sibling
from index.schema import About

_ENCODE_AT_ONCE = 1024


def is_list(value: Any) -> bool:
    """Whether a value holds several, and is no text."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def is_vector(value: Any) -> bool:
    """Whether a value is one list of numbers, or looks like it; a search by a vector must not look at each of them."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.ndim == 1
    return is_list(value) and not any(map(is_list, value))


def check_model(folder: Path, about: About, encoder: TextEncoder | None, *, allow_sibling: bool) -> bool:
    """Whether the encoder is a sibling of the model that made the vectors, rather than that model."""
    if encoder is None:
        return False
    sibling = check_sibling(
        f"The collection in {folder}",
        about.fingerprint,
        about.space,
        encoder,
        allow=allow_sibling,
        again="re-embed its texts into a new collection",
    )
    if about.dim != encoder.dim:
        raise InputError(f"{folder} holds vectors of width {about.dim}, the encoder gives {encoder.dim}. Set its dim.")
    return sibling


def encode_documents(encoder: TextEncoder, texts: Sequence[str], show_progress: bool | None) -> FloatMatrix:
    """Encode in slices, so that a bar can move; the protocol itself knows no progress."""
    starts = range(0, len(texts), _ENCODE_AT_ONCE)
    if show_progress is None:
        show_progress = len(starts) > 1 and sys.stderr.isatty()
    from tqdm import tqdm

    with tqdm(total=len(texts), unit="text", desc="encode", disable=not show_progress) as bar:
        parts = []
        for start in starts:
            parts.append(encoder.encode_document(texts[start : start + _ENCODE_AT_ONCE]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)
