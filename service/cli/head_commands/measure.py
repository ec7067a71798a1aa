"""``head evaluate`` and ``head report``: figures and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.cli.head_commands.files_and_models import check_output, columns_of, open_encoder
from service.cli.options import MODEL, PATH, LabelOptions, label_options

if TYPE_CHECKING:
    from encoder_tools.protocols import TextEncoder

_SHOWN = 5  # pairs of labels that are confused


@click.command("evaluate", short_help="Measure a head on labeled texts.")
@click.argument("folder", type=PATH)
@click.argument("test", type=PATH)
@MODEL
@label_options
@click.option("--train", type=PATH, help="Examples it was fitted on, to count texts that are in both files.")
@click.option("--json", "json_file", type=PATH, help="Write the figures to this file too.")
def evaluate(
    folder: Path, test: Path, model: str, train: Path | None, json_file: Path | None, labels: LabelOptions
) -> None:
    """Measure the head in FOLDER on the labeled texts in TEST.

    Rows with labels that the head does not know count as texts out of scope.
    """
    check_output(json_file, (test, train), overwrite=True)
    measure(open_encoder(model), folder, test, labels, train, json_file)


@click.command("report", short_help="Write an HTML page about a head.")
@click.argument("folder", type=PATH)
@click.argument("out", type=PATH)
@click.option("--train", type=PATH, help="Its examples: adds a map, labels that look wrong, near-duplicates.")
@click.option("--test", type=PATH, help="Labeled texts to measure on.")
@click.option("--pool", type=PATH, help="Unlabeled texts, to choose from what to label next.")
@MODEL
@label_options
@click.option("--json", "json_file", type=PATH, help="Write all of it to this file too.")
def report(
    folder: Path,
    out: Path,
    train: Path | None,
    test: Path | None,
    pool: Path | None,
    model: str,
    json_file: Path | None,
    labels: LabelOptions,
) -> None:
    """Write a page about the head in FOLDER to OUT, one HTML file that needs nothing else."""
    from heads import load_head
    from heads.workflows.report import report_file

    if train is None and test is None:
        raise click.UsageError("Name --train, --test, or both.")
    if pool is not None and train is None:
        raise click.UsageError("--pool needs --train.")
    for written in (out, json_file):
        check_output(written, (train, test, pool), overwrite=True)
    encoder = open_encoder(model)
    head = load_head(folder, encoder=encoder)
    files = {"train": train, "test": test, "pool": pool, "json_file": json_file}
    report_file(encoder, head, out, columns_of(labels), labels.split, **files, log=click.echo)
    click.echo(f"wrote {out}")


def measure(
    encoder: TextEncoder, folder: Path, test: Path, labels: LabelOptions, train: Path | None, json_file: Path | None
) -> None:
    """Print the figures of a head, and write them to a file if one is named."""
    from heads import load_head
    from heads.evaluation import Report, summary
    from heads.workflows.report import evaluate_file, write_report

    head = load_head(folder, encoder=encoder)
    report = evaluate_file(encoder, head, test, columns_of(labels), labels.split, train=train, log=click.echo)
    for name, value in summary(report).items():
        click.echo(f"{name:<28} {value:.4f}")
    if isinstance(report, Report):
        for pair in report.confused[:_SHOWN]:
            click.echo(f"  {pair.texts:>4}  {pair.truth} taken for {pair.given}")
    if json_file is not None:
        write_report(json_file, report)
