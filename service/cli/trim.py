"""``encoder-tools trim``: a smaller vocabulary for the same model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("trim")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Texts whose pieces are kept: .txt, one a line, or a table; may be given several times.",
)
@click.option("--column", default="text", show_default=True, help="Column of tables.")
@click.option("--keep", type=click.IntRange(min=1), help="Number of pieces to keep.")
@click.option("--languages", help="Keep pieces in the scripts of these languages, such as de,ru.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def command(
    model: Path,
    out: Path,
    corpus: tuple[Path, ...],
    column: str,
    keep: int | None,
    languages: str | None,
    overwrite: bool,
) -> None:
    """Write OUT, the model of folder MODEL with a smaller vocabulary.

    Tokenizer and word table are cut together. Texts of the corpus keep their pieces, and vectors that are equal to the
    bit; the share of held-out texts that split differently is told. Export OUT then. Needs the extra "train".
    """
    from encoder_tools.trimming import trim

    codes = [code.strip() for code in (languages or "").split(",") if code.strip()]
    report = trim(
        model, out, corpus=corpus, column=column, keep=keep, languages=codes, overwrite=overwrite, log=click.echo
    )
    click.echo(f"pieces   {report.pieces_before:,} -> {report.pieces_after:,}")
    click.echo(f"weights  {report.bytes_before / 1e6:,.1f} MB -> {report.bytes_after / 1e6:,.1f} MB")
    click.echo(
        f"texts    {report.texts:,} counted, {report.counted_split_differently:.2%} of them split differently; of "
        f"{report.fresh_texts:,} fresh ones {report.split_differently:.2%}"
    )
    click.echo(f"vectors  equal to the bit over {report.compared} texts with the same pieces")
    click.echo(f"wrote    {out}; next: encoder-tools export {out}")
