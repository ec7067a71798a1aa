"""``encoder-tools distill``: a small model from a large one, as a recipe says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

_NOT_DONE = 75  # EX_TEMPFAIL of sysexits.h: try again


@click.command("distill")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the run's state and log.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Stop after this time; the same command resumes later.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Device to train on."
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def command(
    recipe: Path, out: Path, work: Path, minutes: float | None, device: Literal["cpu", "cuda"], overwrite: bool
) -> None:
    """Train a student as RECIPE, a TOML file, says, and write the model folder OUT.

    The student learns its teacher's vectors token by token, in the teacher's own embedding space. A run may be done in
    slices of --minutes: the state is saved, and the same command resumes from it, to the same bits on a CPU. Exit code
    75 says that time ran out before the last step. Needs the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "torch", "transformers", "sentence_transformers")
    from encoder_tools.distillation.run import distill

    done = distill(recipe, out, work=work, minutes=minutes, device=device, overwrite=overwrite, log=click.echo)
    if not done:
        sys.exit(_NOT_DONE)
