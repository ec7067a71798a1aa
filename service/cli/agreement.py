"""``encoder-tools agreement``: how well a model agrees with the one whose embedding space it shares."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("agreement")
@click.argument("model")
@click.option("--space-of", "root", required=True, help="The model that defines the embedding space.")
@click.option(
    "--texts",
    type=click.Path(path_type=Path),
    required=True,
    help="One text per line, gzip-compressed if it ends in .gz.",
)
def command(model: str, root: str, texts: Path) -> None:
    """Compare the vectors of MODEL with those of another model, and record the agreement in MODEL.

    Collections and heads of one model can then be opened with the other one, where --allow-sibling asks for it.
    `encoder-tools distill` does this by itself. Needs the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "torch", "sentence_transformers")
    from encoder_tools.distillation.texts import read_lines
    from encoder_tools.evaluation.agreement import record_agreement

    click.echo(f"{model}: {record_agreement(model, root, read_lines(texts))}")
