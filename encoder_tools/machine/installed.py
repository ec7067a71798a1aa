"""Versions of installed distributions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(distribution: str) -> str | None:
    """The installed version; None where the distribution is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
