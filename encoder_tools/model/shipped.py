"""Models that ship with the package, by name."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = "default"
"""Name of the model that ships with the package."""


def model_path(model: str | Path) -> Path:
    """Where a model is: the shipped one for its name, else the folder of that path.

    A folder that happens to be called "default" is meant by ``Path("default")`` or ``"./default"``.
    """
    return Path(__file__).parents[1] / "shipped_models" / model if model == DEFAULT_MODEL else Path(model)
