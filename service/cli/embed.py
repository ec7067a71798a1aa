"""``encoder-tools embed``: vectors of very many texts, into files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from service.cli.options import DOCUMENT_COLUMNS, MODEL, ColumnOptions, gathered, with_options

if TYPE_CHECKING:
    from encoder_tools.bulk.embed_files import Embedded, Runner
    from encoder_tools.runtime.providers import Provider


@dataclass(frozen=True)
class RunOptions:
    """Who embeds."""

    variant: str
    provider: Provider
    shard_rows: int
    runner: Runner
    processes: int | None
    ray_address: str | None


_RUN = (
    click.option("--variant", default="fp32", show_default=True, help="Graph of the model, or auto."),
    click.option(
        "--provider",
        type=click.Choice(["cpu", "cuda", "tensorrt", "openvino"]),
        default="cpu",
        show_default=True,
        help="What runs it.",
    ),
    click.option("--shard-rows", type=click.IntRange(min=1), default=16384, show_default=True, help="Rows of a shard."),
    click.option(
        "--runner",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Processes of this machine, or a Ray cluster (extra: ray).",
    ),
    click.option("--processes", type=click.IntRange(min=1), help="How many embed.  [default: one per core, or GPU]"),
    click.option("--ray-address", help="Of the cluster.  [default: RAY_ADDRESS, else a new one here]"),
)


@click.command("embed")
@click.argument("inputs", nargs=-1, required=True)
@click.argument("out")
@MODEL
@with_options(DOCUMENT_COLUMNS)
@with_options(_RUN)
@gathered(ColumnOptions, "rows")
@gathered(RunOptions, "run")
def command(inputs: tuple[str, ...], out: str, model: str, rows: ColumnOptions, run: RunOptions) -> None:
    """Embed the texts of INPUTS into shards of Parquet in OUT.

    INPUTS are JSON Lines, CSV or Parquet files, or addresses of object stores such as s3://bucket/part.parquet, where a
    * stands for any characters (extra: bulk); OUT is a folder or such an address. An interrupted run resumes when it is
    started again: whole shards are kept. Rows that cannot be used are in a .rejected.jsonl file beside their shard, and
    the exit code is 3. To make a collection of OUT: encoder-tools index build FOLDER --from OUT.
    """
    from tqdm import tqdm

    from encoder_tools.bulk.embed_files import embed_files

    with tqdm(unit="row", disable=None) as bar:

        def progress(done: int, expected: int | None) -> None:
            bar.total = expected if expected is None or expected >= done else done
            bar.update(done - bar.n)

        embedded = embed_files(
            inputs,
            out,
            model,
            variant=run.variant,
            provider=run.provider,
            columns=rows.columns,
            reading=rows.reading,
            shard_rows=run.shard_rows,
            runner=run.runner,
            processes=run.processes,
            ray_address=run.ray_address,
            progress=None if bar.disable else progress,
        )
    click.echo(_told(embedded))


def _told(embedded: Embedded) -> str:
    skipped = f" ({embedded.skipped} were there)" if embedded.skipped else ""
    return (
        f"{embedded.out}: {embedded.rows} vectors in {embedded.shards} shards{skipped}, {embedded.rejected} rows "
        f"rejected; {embedded.seconds:.1f} s, {embedded.rate:.0f} rows per second"
    )
