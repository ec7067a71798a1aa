"""Checks of what users pass to heads: texts or vectors, and labels of one type."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import EncoderToolsError, InputError
from encoder_tools.protocols import FloatMatrix, TextEncoder


@contextmanager
def as_input_error() -> Iterator[None]:
    """Turn the ValueError or TypeError of a foreign validator into one :class:`InputError` line."""
    try:
        yield
    except EncoderToolsError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(" ".join(str(error).split())) from None


def as_texts(values: Any) -> list[str] | None:
    """The texts in ``values``, or None if it holds no strings (vectors, then).

    :raises InputError: for a lone string, an empty list, or strings mixed with other things.
    """
    if isinstance(values, str | bytes):
        raise InputError(f"Found a lone {type(values).__name__}, expected a list of texts. Put it into a list.")
    items = _flat_items(values)
    if items is None:
        _refuse_columns_of_texts(values)
        return None
    if len(items) == 0:
        raise InputError("Found no examples (0 sample(s)), expected texts or vectors of shape (n, dim).")
    if not any(isinstance(item, str | bytes) for item in items):
        return None
    for position, item in enumerate(items):
        if not isinstance(item, str):
            raise InputError(f"Item {position} is a {type(item).__name__}, expected a text like the others.")
    return [str(item) for item in items]


def _refuse_columns_of_texts(values: Any) -> None:
    """What people pass who are used to tables: a table of one column."""
    if getattr(values, "ndim", 0) != 2 or 0 in values.shape or hasattr(values, "toarray"):
        return
    first = np.asarray(values[:1], dtype=object)[0, 0]
    if isinstance(first, str) and not _is_number(first):
        raise InputError(
            f"Found a table of texts of shape {tuple(values.shape)}, expected a list. Pass one column, such as "
            "table['text'], or array[:, 0]."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def encode_texts(encoder: object, texts: Sequence[str]) -> FloatMatrix:
    """Vectors (n, dim) of ``texts`` for classification.

    :raises InputError: if there is no encoder, or it is none.
    """
    return checked_encoder(encoder).encode(texts)


def checked_encoder(encoder: object) -> TextEncoder:
    """``encoder`` if it follows the protocol.

    :raises InputError: if it does not.
    """
    if encoder is None:
        raise InputError("Found texts but the head has no encoder. Pass LinearHead(encoder=...) or vectors.")
    if not isinstance(encoder, TextEncoder):
        raise InputError(
            f"The encoder is a {type(encoder).__name__}, expected an object with encode, encode_query, "
            "encode_document, dim and fingerprint."
        )
    return encoder


def checked_weights(weights: Any, n: int) -> NDArray[np.float64] | None:
    """Weights of ``n`` examples, float64 of shape (n,); None if none are given.

    :raises InputError: unless they are ``n`` numbers that are finite and not negative, one of them above zero.
    """
    if weights is None:
        return None
    with as_input_error():
        array = np.asarray(weights, dtype=np.float64)
    array = np.full(n, float(array)) if array.ndim == 0 else array
    if array.ndim != 1:
        raise InputError(f"Sample weights must be 1D array or scalar, found shape {array.shape}, expected ({n},).")
    if len(array) != n:
        raise InputError(f"sample_weight.shape == {array.shape}, expected ({n},): one weight per example.")
    if not np.isfinite(array).all() or (array < 0).any() or not (array > 0).any():
        raise InputError(
            "Sample weights hold NaN, infinity, negative numbers or only zeros, expected positive numbers."
        )
    return array


def check_label_kinds(labels: Any) -> None:
    """Refuse labels that numpy would silently turn into strings, and missing ones.

    :raises InputError: naming the first label that differs from the first one's kind.
    """
    items = _flat_items(labels)
    if items is None:
        return
    first: str | None = None
    for position, label in enumerate(items):
        kind = _kind(label)
        if kind == "missing":
            raise InputError(f"Label {position} is missing (Input contains NaN or None), expected a label per example.")
        first = first or kind
        if kind != first:
            raise InputError(f"Label {position} is a {kind}, the first one a {first}: expected labels of one kind.")


def _flat_items(values: Any) -> Sequence[Any] | None:
    """``values`` as a sequence if its items may be of any kind; None for numeric arrays, tables and the like."""
    if isinstance(values, list | tuple):
        return values
    if getattr(values, "ndim", None) != 1:
        return None
    array = np.asarray(values)
    return list(array) if array.dtype.kind in "OUST" else None


def _kind(label: Any) -> str:
    if label is None or (isinstance(label, float | np.floating) and math.isnan(label)):
        return "missing"
    if isinstance(label, str):
        return "string"
    if isinstance(label, bool | np.bool_):
        return "boolean"
    return "number" if isinstance(label, int | float | np.number) else type(label).__name__
