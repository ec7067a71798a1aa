"""What the commands on heads share: opening a model, choosing columns, and not writing over what is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from encoder_tools.io.columns import LabeledColumns
    from encoder_tools.protocols import TextEncoder
    from service.cli.options import LabelOptions


def open_encoder(model: str) -> TextEncoder:
    """The exported model of that name or folder."""
    from encoder_tools import OnnxEncoder

    return OnnxEncoder(model)


def columns_of(labels: LabelOptions) -> LabeledColumns:
    """The columns that the options name."""
    from encoder_tools.io.columns import LabeledColumns

    return LabeledColumns(
        labels.text,
        labels.label,
        False,
        labels.separator,
        labels.labels_as_text,
        labels.label_lists,
        labels.encoding,
        labels.delimiter,
    )


def check_output(out: Path | None, inputs: Sequence[Path | None], overwrite: bool) -> None:
    """Refuse to write over what is read, or over an existing file without ``overwrite``."""
    if out is None or not out.exists():
        return
    if out.is_dir() or any(file is not None and file.exists() and out.samefile(file) for file in inputs):
        raise click.UsageError(f"{out} is a folder or is read from; choose another file to write.")
    if not overwrite:
        raise click.UsageError(f"{out} exists; choose another file, or --overwrite it.")


def descriptions_in(path: Path) -> dict[str, str]:
    """Labels and descriptions in a JSON file: an object, or a list of labels that describe themselves."""
    from encoder_tools.io.files import read_json_as

    described = read_json_as(path, dict[str, str] | list[str])  # type: ignore[arg-type]  # mypy takes no unions here
    return described if isinstance(described, dict) else {label: label for label in described}
