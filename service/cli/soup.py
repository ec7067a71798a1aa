"""``encoder-tools soup``: several trained models in one, where that is better."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("soup")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def command(recipe: Path, out: Path, models: tuple[Path, ...], overwrite: bool) -> None:
    """Average the weights of MODELS, trained from one base, into OUT; each is included only if quality rises.

    Quality is measured on the held-out examples of RECIPE. Average runs of one recipe with other seeds or rates. Needs
    the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "torch", "sentence_transformers")
    from encoder_tools.training.soup import soup

    soup(recipe, models, out, overwrite=overwrite, log=click.echo)
    click.echo(f"wrote {out}")
