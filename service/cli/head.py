"""``encoder-tools head``: classifiers on a model's vectors, fitted, measured, looked at and used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from encoder_tools.io.columns import LabeledColumns
    from encoder_tools.protocols import TextEncoder
    from service.workflows.few_shot import Choice

_PATH = click.Path(path_type=Path)
_MODEL = click.option("--model", default="default", show_default=True, help='Exported model folder, or "default".')
_READING = (
    click.option("--split", default="train", show_default=True, help="Of a folder of several."),
    click.option("--encoding", help="Of text files.  [default: UTF-8, or UTF-16 where it is told]"),
    click.option("--delimiter", help="Between the cells of a CSV.  [default: told by its first rows]"),
)
_SHOWN = 5  # pairs of labels that are confused
_KINDS = ("linear", "zero-shot", "mlp", "prototype", "knn", "hierarchical", "multi-label", "regression")


@click.group("head")
def command() -> None:
    """Heads: labels for texts, from examples of them."""


def _columns(function: Callable[..., None]) -> Callable[..., None]:
    options = [
        click.option(
            "--text", multiple=True, default=("text",), show_default=True, help="Column of the text; repeatable."
        ),
        click.option(
            "--label",
            multiple=True,
            default=("label",),
            show_default=True,
            help="Column of the label; several are levels (hierarchical), or set or not (multi-label).",
        ),
        click.option("--separator", default=",", show_default=True, help="Between several labels in one cell."),
        click.option("--labels-as-text", is_flag=True, help="Take labels as they are written, whatever their kind."),
        click.option("--label-lists", is_flag=True, help="Read cells such as ['a', 'b'] as lists of labels."),
        *_READING,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command("fit")
@click.argument("train", type=_PATH)
@click.argument("out", type=_PATH)
@_MODEL
@_columns
@click.option("--kind", type=click.Choice(_KINDS), default="linear", show_default=True)
@click.option("--descriptions", type=_PATH, help="Of zero-shot: JSON of label and description.  [default: their names]")
@click.option("--most-errors", type=click.FloatRange(0, 1, True, True), help="Promise: at most so many answers wrong.")
@click.option("--answers", type=click.FloatRange(0, 1, True, True), help="Promise: at least so many texts answered.")
@click.option("--confidence", type=click.FloatRange(0, 1, True, True), default=0.9, show_default=True, help="Of it.")
@click.option("--held-out", type=_PATH, help="Examples for the guarantee.  [default: a fifth of TRAIN]")
@click.option("--out-of-scope", "outside", type=_PATH, help="Texts that have none of the labels.")
@click.option("--out-of-scope-label", "outside_label", help="Label of such texts in TRAIN.")
@click.option("--no-scope", is_flag=True, help="Do not tell texts that are out of scope.")
@click.option("--few-shot", is_flag=True, help='Adapt the model too, where that helps. Needs the extra "train".')
@click.option("--fine-tune", is_flag=True, help='Train model and head end to end. Needs the extra "train".')
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Of --fine-tune.")
@click.option("--adapted", type=_PATH, help="Folder for the adapted model.  [default: OUT-model]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="To train on.")
@click.option("--test", type=_PATH, help="Examples to measure on.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def fit(train: Path, out: Path, model: str, test: Path | None, overwrite: bool, **how: Any) -> None:
    """Fit a head to the labeled texts in TRAIN and write it to the folder OUT.

    TRAIN is CSV, TSV, JSON Lines (each also .gz), Parquet, or a folder of datasets. Rows that cannot be used go to
    OUT.rejected.jsonl with the reason. With --few-shot the model is adapted to them as well, for eight examples a
    label or so, if that judges a quarter of them, held out, better; the head then belongs to the adapted model.
    """
    from heads import save_head
    from heads.estimators.pipeline import RiskGuarantee
    from heads.workflows.fit import FitJob, fit_file

    if out.exists() and not overwrite:
        raise click.UsageError(f"{out} exists; choose another folder, or --overwrite it.")
    if how["descriptions"] is not None and how["kind"] != "zero-shot":
        raise click.UsageError("--descriptions is for --kind zero-shot.")
    columns = _layout(how)
    temperature = None
    _check_training(how)
    if how["fine_tune"]:
        _fine_tuned(model, train, out, columns, overwrite, test, how)
        return
    if how["few_shot"]:
        chosen = _adapted(model, train, out, columns, overwrite, how)
        if chosen.model is not None:
            model, temperature = str(chosen.model), chosen.trial.temperature if how["kind"] == "linear" else 1.0
            how["no_scope"] = how["no_scope"] or _no_scope_of_what_was_learned()
    encoder = _open(model)
    guarantee = RiskGuarantee(how["max_error_rate"], how["answers"], how["confidence"])
    job = FitJob(
        train,
        out,
        columns,
        how["kind"],
        how["split"],
        guarantee,
        how["held_out"],
        how["outside"],
        how["outside_label"],
        not how["no_scope"],
        temperature,
        None if how["descriptions"] is None else _described(how["descriptions"]),
    )
    head = fit_file(encoder, job, click.echo)
    save_head(head, out, overwrite=overwrite)
    click.echo(f"wrote {out}: {len(head.labels)} labels, kind {head.scorer.kind}")
    if test is not None:
        _measure(encoder, out, test, columns, how["split"], train, None)


@command.command("evaluate")
@click.argument("folder", type=_PATH)
@click.argument("test", type=_PATH)
@_MODEL
@_columns
@click.option("--train", type=_PATH, help="What it was fitted on, to count texts that are in both.")
@click.option("--json", "json_file", type=_PATH, help="Write the figures to this file too.")
def evaluate(folder: Path, test: Path, model: str, train: Path | None, json_file: Path | None, **how: Any) -> None:
    """Measure the head in FOLDER on the labeled texts in TEST.

    Labels that the head does not know are texts out of scope.
    """
    _keep(json_file, (test, train), overwrite=True)
    _measure(_open(model), folder, test, _layout(how), how["split"], train, json_file)


@command.command("predict")
@click.argument("folder", type=_PATH)
@click.argument("file", type=_PATH)
@click.argument("out", type=_PATH)
@_MODEL
@click.option("--text", multiple=True, default=("text",), show_default=True, help="Column of the text; repeatable.")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Labels per row.")
@click.option("--cut", is_flag=True, help="Read only the beginning of long texts.  [default: all, in pieces]")
@click.option("--keep", multiple=True, help="Column of FILE to write too; repeatable.")
@_READING[0]
@_READING[1]
@_READING[2]
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def predict(
    folder: Path,
    file: Path,
    out: Path,
    model: str,
    text: tuple[str, ...],
    top: int,
    cut: bool,
    keep: tuple[str, ...],
    split: str,
    encoding: str | None,
    delimiter: str | None,
    overwrite: bool,
) -> None:
    """Predict the labels of every row of FILE by the head in FOLDER, into OUT: .jsonl, .csv, .tsv or .parquet.

    FILE may be larger than memory. An interrupted run resumes when it is started again. Rows that cannot be used go
    to OUT.rejected.jsonl with the reason, and the exit code is 3.
    """
    from encoder_tools.io.columns import LabeledColumns
    from heads import predict_file

    _keep(out, (file,), overwrite)
    predicted = predict_file(
        _open(model),
        folder,
        file,
        out,
        columns=LabeledColumns(text, (), encoding=encoding, delimiter=delimiter),
        top=top,
        keep=keep,
        chunk=not cut,
        split=split,
        log=partial(click.echo, err=True),
        progress=None,
    )
    click.echo(f"{out}: {predicted.rows} rows predicted{predicted.rejected.said()}")


@command.command("report")
@click.argument("folder", type=_PATH)
@click.argument("out", type=_PATH)
@click.option("--train", type=_PATH, help="Its examples: a map, labels that look wrong, near-duplicates.")
@click.option("--test", type=_PATH, help="Examples to measure on.")
@click.option("--pool", type=_PATH, help="Texts without labels, to choose from what to label next.")
@_MODEL
@_columns
@click.option("--json", "json_file", type=_PATH, help="Write all of it to this file too.")
def report(
    folder: Path,
    out: Path,
    train: Path | None,
    test: Path | None,
    pool: Path | None,
    model: str,
    json_file: Path | None,
    **how: Any,
) -> None:
    """Write a page about the head in FOLDER to OUT, one HTML file that needs nothing else."""
    from heads import load_head
    from heads.workflows.report import report_file

    if train is None and test is None:
        raise click.UsageError("Name --train, --test, or both.")
    if pool is not None and train is None:
        raise click.UsageError("--pool needs --train.")
    for written in (out, json_file):
        _keep(written, (train, test, pool), overwrite=True)
    encoder = _open(model)
    head = load_head(folder, encoder=encoder)
    given = {"train": train, "test": test, "pool": pool, "json_file": json_file}
    report_file(encoder, head, out, _layout(how), how["split"], **given, log=click.echo)
    click.echo(f"wrote {out}")


def _keep(out: Path | None, read: Sequence[Path | None], overwrite: bool) -> None:
    """Refuse to write over what is read, or over what is there."""
    if out is None or not out.exists():
        return
    if out.is_dir() or any(file is not None and file.exists() and out.samefile(file) for file in read):
        raise click.UsageError(f"{out} is a folder or is read from; choose another file to write.")
    if not overwrite:
        raise click.UsageError(f"{out} exists; choose another file, or --overwrite it.")


def _check_training(how: dict[str, Any]) -> None:
    from encoder_tools.extras import require_extra

    if not how["few_shot"] and not how["fine_tune"]:
        return
    if how["few_shot"] and how["fine_tune"]:
        raise click.UsageError("Choose one of --few-shot, for a few labels, and --fine-tune, for many.")
    if how["kind"] in ("multi-label", "regression") or (how["fine_tune"] and how["kind"] != "linear"):
        raise click.UsageError(f"--few-shot and --fine-tune give one label a text; --kind is {how['kind']}.")
    guaranteed = how["max_error_rate"] is not None or how["answers"] is not None
    if guaranteed and (how["held_out"] is None or how["fine_tune"]):
        raise click.UsageError(
            "A model that has learned the examples cannot guarantee anything by them: pass --held-out with "
            "--few-shot, or "
            "fit a head to the fine-tuned model's vectors."
        )
    require_extra("train", "torch", "sentence_transformers")


def _examples(train: Path, out: Path, columns: LabeledColumns, how: dict[str, Any]) -> tuple[list[str], Any, Path]:
    import numpy as np

    from heads.labeled import read_labels

    labeled = read_labels(train, out, columns, how["split"], click.echo)
    inside = [row for row, label in enumerate(labeled.labels) if str(label) != how["outside_label"]]
    texts, labels = [labeled.texts[row] for row in inside], np.array([labeled.labels[row] for row in inside])
    return texts, labels, how["adapted"] or out.with_name(f"{out.name}-model")


def _fine_tuned(
    model: str, train: Path, out: Path, columns: LabeledColumns, overwrite: bool, test: Path | None, how: dict[str, Any]
) -> None:
    from encoder_tools.training.fine_tune import FineTune
    from heads import save_head
    from service.workflows.few_shot import fine_tune_head

    texts, labels, target = _examples(train, out, columns, how)
    settings = FineTune(epochs=how["epochs"], device=how["device"])
    tuned = fine_tune_head(model, texts, labels, target, settings, overwrite=overwrite, log=click.echo)
    save_head(tuned.head, out, overwrite=overwrite)
    click.echo(f"wrote {out}, and {tuned.model}: the model that belongs to it (--model {tuned.model})")
    if test is not None:
        _measure(_open(str(tuned.model)), out, test, columns, how["split"], train, None)


def _adapted(
    model: str, train: Path, out: Path, columns: LabeledColumns, overwrite: bool, how: dict[str, Any]
) -> Choice:
    from encoder_tools.training.few_shot import FewShot
    from service.workflows.few_shot import adapt_if_it_helps

    texts, labels, target = _examples(train, out, columns, how)
    settings = FewShot(device=how["device"])
    return adapt_if_it_helps(model, texts, labels, target, settings, overwrite=overwrite, log=click.echo)


def _no_scope_of_what_was_learned() -> bool:
    click.echo("no test of scope: to a model that was adapted to them, the examples look more alike than other texts")
    return True


@command.command("describe")
@click.argument("descriptions", type=_PATH)
@click.argument("out", type=_PATH)
@_MODEL
@click.option("--template", default="{}", show_default=True, help="What a description is put into.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def describe(descriptions: Path, out: Path, model: str, template: str, overwrite: bool) -> None:
    """Write a head that knows its labels by DESCRIPTIONS alone, without an example, to OUT.

    DESCRIPTIONS is a JSON object of label and description, or a list of labels whose names say enough. With examples:
    fit --kind zero-shot --descriptions.
    """
    from heads import save_head
    from heads.workflows.fit import describe_labels

    head = describe_labels(_open(model), _described(descriptions), template)
    save_head(head, out, overwrite=overwrite)
    click.echo(f"wrote {out}: {len(head.labels)} labels by their descriptions")


@command.command("fuse")
@click.argument("folder", type=_PATH)
@click.argument("out", type=_PATH)
@_MODEL
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def fuse(folder: Path, out: Path, model: str, overwrite: bool) -> None:
    """Write the head in FOLDER and its model as one graph, OUT/model.onnx: tokens in, vectors and probabilities out.

    Needs the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "onnx")
    from encoder_tools import OnnxEncoder
    from heads import load_head
    from service.workflows.fuse import fuse as fused

    encoder = OnnxEncoder(model)
    worst = fused(encoder, load_head(folder, encoder=encoder), out, overwrite=overwrite)
    click.echo(f"wrote {out}: model.onnx, tokenizer.json, labels.json; probabilities differ by {worst:.1e} at most")


def _described(path: Path) -> dict[str, str]:
    from encoder_tools.io.files import read_json_as

    described = read_json_as(path, dict[str, str] | list[str])  # type: ignore[arg-type]  # a union is none to mypy
    return described if isinstance(described, dict) else {label: label for label in described}


def _open(model: str) -> TextEncoder:
    from encoder_tools import OnnxEncoder

    return OnnxEncoder(model)


def _layout(how: dict[str, Any]) -> LabeledColumns:
    from encoder_tools.io.columns import LabeledColumns

    return LabeledColumns(
        how["text"],
        how["label"],
        False,
        how["separator"],
        how["labels_as_text"],
        how["label_lists"],
        how["encoding"],
        how["delimiter"],
    )


def _measure(
    encoder: TextEncoder,
    folder: Path,
    test: Path,
    columns: LabeledColumns,
    split: str,
    train: Path | None,
    json_file: Path | None,
) -> None:
    from heads import load_head
    from heads.evaluation import Report, summary
    from heads.workflows.report import evaluate_file, write_report

    head = load_head(folder, encoder=encoder)
    report = evaluate_file(encoder, head, test, columns, split, train=train, log=click.echo)
    for name, value in summary(report).items():
        click.echo(f"{name:<28} {value:.4f}")
    if isinstance(report, Report):
        for pair in report.confused[:_SHOWN]:
            click.echo(f"  {pair.texts:>4}  {pair.truth} taken for {pair.given}")
    if json_file is not None:
        write_report(json_file, report)
