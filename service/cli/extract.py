"""``encoder-tools extract``: the encoder half of an encoder-decoder checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.options import RenamingCommand


@click.command("extract", cls=RenamingCommand, renamed={"--layout": "--key-layout"})
@click.argument("checkpoint")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--revision", help="Branch, tag or commit of a hub id.")
@click.option(
    "--key-layout",
    "layout",
    type=click.Choice(["gemma3", "t5gemma2"]),
    help="For T5Gemma 2: tensor names of Gemma 3, which run wherever EmbeddingGemma does (default), or its own.",
)
@click.option("--keep-vision", is_flag=True, help="Keep the vision tower (T5Gemma 2 with --key-layout t5gemma2).")
@click.option(
    "--pooling",
    type=click.Choice(["mean", "cls", "last", "weighted-mean", "max"]),
    default="mean",
    show_default=True,
    help="From token vectors to one vector.",
)
@click.option(
    "--dense",
    type=click.IntRange(1, 65_536),
    multiple=True,
    metavar="WIDTH",
    help="Add a linear layer after the pooling, started at random; may be given several times.",
)
@click.option("--no-normalize", is_flag=True, help="Do not end in unit vectors.")
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    help="Maximum length in tokens. By default the model's, unless long texts are measured to differ.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def command(
    checkpoint: str,
    out: Path,
    revision: str | None,
    layout: str | None,
    keep_vision: bool,
    pooling: str,
    dense: tuple[int, ...],
    no_normalize: bool,
    max_length: int | None,
    overwrite: bool,
) -> None:
    """Cut the encoder out of CHECKPOINT, a local folder or a hub id, and write the model folder OUT.

    Families: T5Gemma 2, T5Gemma, T5, v1.1, Flan-T5, ByT5, mT5, UMT5, LongT5; BART, mBART, Marian, M2M100 with NLLB,
    Pegasus. OUT is a plain Sentence Transformers folder. Every tensor is accounted for, and hidden states are compared
    with the source's; the report is printed and saved as OUT/extraction.json. Needs the extra "train".
    """
    from encoder_tools.extraction import extract

    report = extract(
        checkpoint,
        out,
        revision=revision,
        layout=layout,
        keep_vision=keep_vision,
        pooling=pooling,
        dense=dense,
        normalize=not no_normalize,
        max_length=max_length,
        overwrite=overwrite,
    )
    click.echo(report.to_text())
    click.echo(f"wrote    {out}")
