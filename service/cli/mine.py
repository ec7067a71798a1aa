"""``encoder-tools mine``: hard negatives for a file of pairs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("mine")
@click.argument("pairs", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", default="default", show_default=True, help="Model whose near misses are mined.")
@click.option("--guide", help="A better model, by which likely answers are left out.")
@click.option("--query", default="query", show_default=True, help="Column of the queries.")
@click.option("--document", default="document", show_default=True, help="Column of the documents that answer them.")
@click.option(
    "--negatives", "per_query", type=click.IntRange(min=1), default=1, show_default=True, help="Negatives per query."
)
@click.option(
    "--depth", type=click.IntRange(min=1), default=50, show_default=True, help="Nearest documents that are considered."
)
@click.option("--margin", type=click.FloatRange(0, 1, min_open=True), default=0.95, show_default=True,
              help="A negative's cosine stays below this share of the answer's.")  # fmt: skip
def command(
    pairs: Path,
    out: Path,
    model: str,
    guide: str | None,
    query: str,
    document: str,
    per_query: int,
    depth: int,
    margin: float,
) -> None:
    """Find hard negatives for the queries in PAIRS among its documents; write OUT, JSON Lines for `train`.

    Rows of OUT have query, document and negative_1, negative_2 and so on; queries without enough negatives are left
    out. Needs the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "torch", "sentence_transformers")
    from encoder_tools.evaluation.agreement import open_encoder
    from encoder_tools.training.data.examples import read_examples, write_examples
    from encoder_tools.training.data.hard_negatives import mine
    from encoder_tools.training.recipe import DataSet

    examples = read_examples(DataSet(str(pairs.resolve()), query=query, document=document), Path(), 1)
    mined = mine(
        open_encoder(model),
        examples.train,
        per_query=per_query,
        depth=depth,
        margin=margin,
        guide=open_encoder(guide) if guide else None,
    )
    written = write_examples(out, [row for row in mined.examples if len(row.negatives) == per_query])
    click.echo(
        f"{len(examples.train)} pairs, {mined.candidates} candidates; left out as likely answers: {mined.too_near} by "
        f"{model}" + (f", {mined.by_the_guide} by {guide}" if guide else "") + f". Wrote {written} rows to {out}."
    )
    for sample in mined.samples:
        click.echo(f"  left out  {sample.query[:60]!r}: {sample.candidate[:60]!r} ({sample.cosine:.2f}; its answer "
                   f"{sample.of_the_document:.2f})")  # fmt: skip
    names = ", ".join(f'"negative_{number}"' for number in range(1, per_query + 1))
    click.echo(f'in a recipe: file = "{out.name}", negatives = [{names}]')
