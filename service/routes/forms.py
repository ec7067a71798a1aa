"""The forms that ``input`` may take, told apart and counted."""

from __future__ import annotations

from collections.abc import Sized

from service.errors import ApiError, bad_request


def texts_of(value: str | list[str | int | list[int]]) -> list[str] | None:
    """The texts, if ``value`` is a text or a list of texts; an empty list counts as one."""
    if isinstance(value, str):
        return [value]
    texts = [item for item in value if isinstance(item, str)]
    return texts if len(texts) == len(value) else None


def token_lists_of(value: str | list[str | int | list[int]]) -> list[list[int]]:
    """Lists of token ids, if ``value`` is a list of ids or a list of such lists.

    :raises ApiError: 400 if it holds several kinds.
    """
    single = [item for item in value if isinstance(item, int)]
    if len(single) == len(value):
        return [single]
    several = [item for item in value if isinstance(item, list)]
    if len(several) == len(value):
        return several
    raise bad_request(
        "input mixes texts, token ids or lists, expected one kind: a text, texts, token ids, or lists of token ids.",
        param="input",
    )


def check_count(items: Sized, max_items: int) -> None:
    """Check that a list of inputs is neither empty nor too long.

    :raises ApiError: 400.
    """
    if len(items) == 0:
        raise bad_request("input is an empty list, expected at least one text.", param="input")
    if len(items) > max_items:
        raise _too_many(len(items), max_items)


def _too_many(count: int, limit: int) -> ApiError:
    return bad_request(
        f"input has {count} items, expected at most {limit}. Send them in several requests.", param="input"
    )
