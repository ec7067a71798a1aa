"""From a trained folder to the one inside the package: exported with int8 weights, and in int8, without safetensors.

python -m recipes.default_model.ship MODEL TARGET --card CARD
"""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from encoder_tools.errors import ExportError
from encoder_tools.io.staging import staged_folder
from encoder_tools.onnx_export import export

MOST_BYTES = 16_000_000
"""Of the model; the graph that computes in int8 comes on top of it and shares its word table."""
MOST_BYTES_OF_INT8 = 5_000_000


def ship(model: Path, target: Path, card: Path) -> int:
    """Export ``model`` with int8 weights and write what the runtime needs of it to ``target``.

    The graph holds every weight, so the safetensors (four times as large) stay behind; ``export.json`` keeps their
    digest, and so the fingerprint.

    :param card: model card that becomes ``README.md``.
    :return: bytes written.
    :raises ExportError: if the result is above 16 MB, or its int8 graph above 5 MB.
    """
    export(model, store_weights="int8", quantize="qint8", log=click.echo)
    with staged_folder(target, overwrite=True) as staged:
        shutil.copytree(model, staged, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
        shutil.copy(card, staged / "README.md")
        size = sum(file.stat().st_size for file in staged.rglob("*") if file.is_file())
        int8 = sum(file.stat().st_size for file in staged.rglob("model_qint8.onnx*"))
        if size - int8 > MOST_BYTES or int8 > MOST_BYTES_OF_INT8:
            raise ExportError(
                f"The shipped model would take {size - int8} bytes and its int8 graph {int8}; at most {MOST_BYTES} and "
                f"{MOST_BYTES_OF_INT8} are allowed."
            )
    return size


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--card", type=click.Path(path_type=Path), required=True, help="Model card, written beside it.")
def main(model: Path, target: Path, card: Path) -> None:
    """Put a trained model into the package."""
    click.echo(f"{ship(model, target, card) / 1e6:.2f} MB in {target}")


if __name__ == "__main__":
    main()
