"""One clear error where an optional dependency is missing."""

from __future__ import annotations

from importlib.util import find_spec

from encoder_tools.errors import MissingExtraError


def require_extra(extra: str, *modules: str) -> None:
    """Check that the modules which ``extra`` brings can be imported, without importing them.

    :raises MissingExtraError: naming the first missing module and the pip line that installs it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtraError(
                f"{module!r} is not installed; this needs the extra {extra!r}. "
                f"Install it: pip install 'encoder-tools[{extra}]'"
            )
