"""What the commands on collections share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import click

Location: TypeAlias = Path | str
"""A folder, or the address of a collection in another engine."""


def LOCATION(value: str) -> Location:  # noqa: N802 - a type of click's, as click.INT is
    """An address as it is: a path has no two slashes behind each other."""
    return value if "://" in str(value) else Path(value)


FOLDER = click.argument("folder", type=LOCATION)
WHERE = click.option("--where", help='A filter, as JSON: \'{"lang": "en"}\'.')


def beside(location: Location) -> Path:
    """What files of a run are called by: beside the folder, or in the working folder by the collection's name."""
    if isinstance(location, Path):
        return location
    return Path(location.rpartition("collection=")[2].partition("&")[0] or "collection")


def ids_of(ids: tuple[str, ...]) -> list[str | int]:
    """Ids as they were typed: what is a number may be stored as one, or as a text."""
    from index.validation import integer_id

    numbers = (integer_id(name) for name in ids)
    return [*dict.fromkeys(ids), *dict.fromkeys(number for number in numbers if number is not None)]


def read_where(text: str | None) -> Any:
    """A filter that was typed.

    :raises InputError: if it is no JSON.
    """
    from encoder_tools.errors import InputError

    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f'--where is not JSON ({error}). Quote it for the shell: \'{{"lang": "en"}}\'.') from None
