"""Checks of what callers pass to a collection: ids, texts, metadata, vectors, k."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import InputError
from encoder_tools.protocols import FloatMatrix
from encoder_tools.vectors import unit_rows
from index.results import DocumentId

_INT64 = 2**63
_SMALL = 1e-200  # squares below it are no longer exact in float64
_ID_BYTES, _METADATA_BYTES, TEXT_BYTES = 4096, 2**20, 2**24


def check_ids(ids: Any) -> list[DocumentId]:
    """A list of distinct string or 64-bit integer ids.

    :raises InputError: naming the first id that is neither, invalid or given twice.
    """
    seen: dict[DocumentId, int] = {}
    for position, value in enumerate(_as_list(ids, "ids")):
        if isinstance(value, np.integer):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(f"Id {position} is a {type(value).__name__}, expected a string or an integer.")
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            raise InputError(f"Id {position} is {value}, expected an integer of 64 bits. Use a string.")
        if isinstance(value, str):
            _check_unicode(value, f"Id {position}", _ID_BYTES)
        if value in seen:
            raise InputError(f"Ids {seen[value]} and {position} are both {value!r}, expected distinct ids in a batch.")
        seen[value] = position
    return list(seen)


def integer_id(text: str) -> int | None:
    """The integer of 64 bits that a text is written as, if it is one: an id that was typed may be stored as one."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > len(str(_INT64)):
        return None
    number = int(text)
    return number if str(number) == text and -_INT64 <= number < _INT64 else None


def texts_for_ids(texts: Any, n: int) -> list[str]:
    """A list of ``n`` strings of valid Unicode.

    :raises InputError: naming the first that is not, or the wrong length.
    """
    items = _as_list(texts, "texts")
    if len(items) != n:
        raise InputError(f"Found {len(items)} texts for {n} ids, expected one text per id.")
    for position, text in enumerate(items):
        if not isinstance(text, str):
            raise InputError(f"Text {position} is a {type(text).__name__}, expected a string.")
        _check_unicode(text, f"Text {position}", TEXT_BYTES)
    return items


def check_metadata(metadata: Any, n: int) -> list[str]:
    """``n`` JSON objects as text, ``{}`` where there is nothing.

    :raises InputError: naming the first that JSON cannot hold, or the wrong length.
    """
    if metadata is None:
        return ["{}"] * n
    metadata = _as_list(metadata, "metadata")
    if len(metadata) != n:
        raise InputError(f"Found {len(metadata)} metadata objects for {n} ids, expected one (or None) per id.")
    return [_json_object(value, position) for position, value in enumerate(metadata)]


def check_score(value: Any, name: str = "min_score") -> float:
    """A lowest score, or another number called ``name``; minus infinity for None.

    :raises InputError: if it is none.
    """
    if value is None:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise InputError(f"{name} is {value!r}, expected a number.")
    return float(value)


def unit_vectors(vectors: Any, dim: int, *, name: str = "vector") -> FloatMatrix:
    """``vectors`` as float32 (n, dim) of length one.

    :raises InputError: for another shape, NaN, infinity or a zero vector, naming the first such row.
    """
    try:
        matrix = np.asarray(vectors)
    except ValueError:
        raise InputError(f"The {name}s differ in width, expected (n, {dim}).") from None
    if matrix.dtype.kind not in "fiu" or matrix.ndim != 2 or matrix.shape[1] != dim:
        raise InputError(f"The {name}s are {matrix.dtype} of shape {matrix.shape}, expected numbers (n, {dim}).")
    matrix = matrix.astype(np.float64)  # squares of large float32 values overflow
    squares = np.einsum("ij,ij->i", matrix, matrix)
    if not ((squares > _SMALL) & (squares < np.inf)).all():  # NaN is neither
        _check_directions(matrix, name)
        return unit_rows(matrix)
    return np.ascontiguousarray(matrix / np.sqrt(squares)[:, None], dtype=np.float32)


def _check_directions(matrix: NDArray[np.float64], name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(matrix, axis=1)
    for problem, rows in (
        ("holds NaN or infinity", ~np.isfinite(matrix).all(axis=1) | ~np.isfinite(norms)),
        ("is zero, which has no direction", norms == 0),
    ):
        if rows.any():
            raise InputError(f"{name.capitalize()} {int(rows.argmax())} {problem}: expected a finite, non-zero vector.")


def _as_list(values: Any, name: str) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence | np.ndarray):
        raise InputError(f"{name} is a {type(values).__name__}, expected a list.")
    return list(values)


def _check_unicode(text: str, name: str, most: int) -> None:
    """Check that a text can be stored, in ``most`` bytes of UTF-8."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} holds a lone surrogate at character {error.start}, expected valid Unicode. "
            "Decode it with errors='replace'."
        ) from None
    if size > most:
        raise InputError(f"{name} takes {size} bytes, expected {most} at most. Split the document, or shorten it.")


def _json_object(value: Any, position: int) -> str:
    if value is None:
        return "{}"
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"Metadata {position} is a {type(value).__name__}, expected an object with string keys.")
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"Metadata {position} cannot be stored as JSON: {error}.") from None
    _check_unicode(text, f"Metadata {position}", _METADATA_BYTES)
    return text
