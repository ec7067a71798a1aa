"""The name of a collection in an address of a database."""

from __future__ import annotations

import re
from collections.abc import Sequence

from encoder_tools.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def collection_name(names: Sequence[str], address: str, example: str) -> str:
    """The one name that an address gives.

    :param address: without its password, and ``example`` one that is right; both for errors.
    :raises InputError: if it gives none, several, or one of other characters.
    """
    if len(names) != 1 or not _NAME.fullmatch(names[0]):
        raise InputError(
            f"{address} names the collections {list(names)}, expected one of letters, digits, dots, hyphens and "
            f"underscores, 40 at most: {example}."
        )
    return names[0]
