"""``head predict``: labels for every row of a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from service.cli.head_commands.files_and_models import check_output, open_encoder
from service.cli.options import MODEL, PATH, READING, RenamingCommand, gathered, with_options


@dataclass(frozen=True)
class PredictOptions:
    """How the rows are read and what is written of them."""

    text: tuple[str, ...]
    top: int
    truncate: bool
    keep: tuple[str, ...]
    split: str
    encoding: str | None
    delimiter: str | None


@click.command("predict", cls=RenamingCommand, renamed={"--cut": "--truncate"}, short_help="Predict labels of a file.")
@click.argument("folder", type=PATH)
@click.argument("file", type=PATH)
@click.argument("out", type=PATH)
@MODEL
@click.option(
    "--text", multiple=True, default=("text",), show_default=True, help="Column of the text; repeat it for several."
)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Labels per row.")
@click.option("--truncate", is_flag=True, help="Read only the beginning of long texts.  [default: all, in chunks]")
@click.option("--keep", multiple=True, help="Column of FILE that is written too; repeat it for several.")
@with_options(READING)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@gathered(PredictOptions, "options")
def predict(folder: Path, file: Path, out: Path, model: str, overwrite: bool, options: PredictOptions) -> None:
    """Predict the labels of every row of FILE by the head in FOLDER, into OUT: .jsonl, .csv, .tsv or .parquet.

    FILE may be larger than memory. An interrupted run resumes when it is started again. Rows that cannot be used are
    written to OUT.rejected.jsonl with the reason, and the exit code is 3.
    """
    from encoder_tools.io.columns import LabeledColumns
    from heads import predict_file

    check_output(out, (file,), overwrite)
    predicted = predict_file(
        open_encoder(model),
        folder,
        file,
        out,
        columns=LabeledColumns(options.text, (), encoding=options.encoding, delimiter=options.delimiter),
        top=options.top,
        keep=options.keep,
        chunk=not options.truncate,
        split=options.split,
        log=partial(click.echo, err=True),
        progress=None,
    )
    click.echo(f"{out}: {predicted.rows} rows predicted{predicted.rejected.said()}")
