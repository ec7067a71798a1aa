"""``encoder-tools train``: an embedding model from pairs, as a recipe says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

_NOT_DONE = 75  # EX_TEMPFAIL of sysexits.h: try again


@click.command("train")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--init", "pairs", type=click.Path(path_type=Path), help="Write a first RECIPE for this file of pairs.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the run's state, log and curves.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Stop after this time; the same command resumes later.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Device to train on."
)
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share each batch."
)
@click.option("--tensorboard", is_flag=True, help="Also write WORK/tensorboard.")
@click.option("--dry-run", is_flag=True, help="Read everything, print the plan and its cost, and stop.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def command(
    recipe: Path,
    out: Path | None,
    pairs: Path | None,
    work: Path | None,
    minutes: float | None,
    device: Literal["cpu", "cuda"],
    processes: int,
    tensorboard: bool,
    dry_run: bool,
    overwrite: bool,
) -> None:
    """Train an embedding model on pairs as RECIPE, a TOML file, says, and write the model folder OUT.

    `encoder-tools train recipe.toml --init pairs.csv` writes a first recipe. A run may be done in slices of --minutes:
    the state is saved, and the same command resumes from it, to the same bits on a CPU. Exit code 75 says that time ran
    out before the last step. Needs the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "torch", "sentence_transformers", "matplotlib")
    if pairs is not None:
        from encoder_tools.training.recipe_template import write_first_recipe

        write_first_recipe(pairs, recipe)
        click.echo(f"wrote {recipe}; read it, then: encoder-tools train {recipe} OUT --work RUN")
        return
    if out is None or work is None:
        raise click.UsageError("Name the folder to write, OUT, and --work, the folder of the run.")
    from encoder_tools.training.run import train

    trained = train(
        recipe,
        out,
        work=work,
        minutes=minutes,
        device=device,
        overwrite=overwrite,
        dry_run=dry_run,
        processes=processes,
        tensorboard=tensorboard,
        log=click.echo,
    )
    if not trained.done and not dry_run:
        sys.exit(_NOT_DONE)
