"""``head fit`` and ``head describe``: a head from examples, or from descriptions alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from service.cli.head_commands.files_and_models import columns_of, descriptions_in, open_encoder
from service.cli.head_commands.measure import measure
from service.cli.options import MODEL, PATH, LabelOptions, RenamingCommand, gathered, label_options, with_options

if TYPE_CHECKING:
    from heads import FittedHead
    from service.workflows.few_shot import Choice

_ESTIMATORS = ("linear", "zero-shot", "mlp", "prototype", "knn", "hierarchical", "multi-label", "regression")
_SHARE = click.FloatRange(0, 1, True, True)
_OPTIONS = (
    click.option(
        "--estimator",
        type=click.Choice(_ESTIMATORS),
        default="linear",
        show_default=True,
        help="How labels are learned.",
    ),
    click.option("--descriptions", type=PATH, help="JSON of labels and descriptions, for zero-shot.  [default: names]"),
    click.option("--max-error-rate", type=_SHARE, help="Guarantee that at most this share of the answers is wrong."),
    click.option("--min-coverage", type=_SHARE, help="Guarantee that at least this share of the texts is answered."),
    click.option("--confidence", type=_SHARE, default=0.9, show_default=True, help="Confidence of the guarantee."),
    click.option("--held-out", type=PATH, help="Examples for the guarantee.  [default: a fifth of TRAIN]"),
    click.option("--out-of-scope", type=PATH, help="Texts that have none of the labels."),
    click.option("--out-of-scope-label", help="Label of such texts in TRAIN."),
    click.option("--no-scope", is_flag=True, help="Do not detect texts that are out of scope."),
    click.option("--few-shot", is_flag=True, help='Adapt the model too, where that helps. Needs the extra "train".'),
    click.option("--fine-tune", is_flag=True, help='Train model and head end to end. Needs the extra "train".'),
    click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Epochs of --fine-tune."),
    click.option("--adapted-model", type=PATH, help="Folder for the adapted model.  [default: OUT-model]"),
    click.option(
        "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Device to train on."
    ),
)
_RENAMED = {
    "--kind": "--estimator",
    "--most-errors": "--max-error-rate",
    "--answers": "--min-coverage",
    "--adapted": "--adapted-model",
}


@dataclass(frozen=True)
class FitOptions:
    """How a head is fitted."""

    estimator: str
    descriptions: Path | None
    max_error_rate: float | None
    min_coverage: float | None
    confidence: float
    held_out: Path | None
    out_of_scope: Path | None
    out_of_scope_label: str | None
    no_scope: bool
    few_shot: bool
    fine_tune: bool
    epochs: int
    adapted_model: Path | None
    device: Literal["cpu", "cuda"]

    @property
    def guaranteed(self) -> bool:
        """Whether a guarantee is required."""
        return self.max_error_rate is not None or self.min_coverage is not None

    def check(self) -> None:
        """Reject options that exclude each other, before any file is read."""
        if self.descriptions is not None and self.estimator != "zero-shot":
            raise click.UsageError("--descriptions is for --estimator zero-shot.")
        if self.few_shot and self.fine_tune:
            raise click.UsageError("Choose one of --few-shot, for a few labels, and --fine-tune, for many.")
        if not self.few_shot and not self.fine_tune:
            return
        if self.estimator in ("multi-label", "regression") or (self.fine_tune and self.estimator != "linear"):
            raise click.UsageError(
                f"--few-shot and --fine-tune give one label per text; --estimator is {self.estimator}."
            )
        if self.guaranteed and (self.held_out is None or self.fine_tune):
            raise click.UsageError(
                "A model that was trained on the examples cannot guarantee anything by them: pass --held-out with "
                "--few-shot, or fit a head to the fine-tuned model's vectors."
            )

    def needs_training(self) -> bool:
        """Whether torch is needed; raises if it is and is not installed."""
        if not (self.few_shot or self.fine_tune):
            return False
        from encoder_tools.extras import require_extra

        require_extra("train", "torch", "sentence_transformers")
        return True


@dataclass(frozen=True)
class _Run:
    """One call of ``head fit``."""

    model: str
    train: Path
    out: Path
    labels: LabelOptions
    options: FitOptions
    overwrite: bool

    @property
    def target(self) -> Path:
        """Folder of the adapted model."""
        return self.options.adapted_model or self.out.with_name(f"{self.out.name}-model")


@click.command("fit", cls=RenamingCommand, renamed=_RENAMED, short_help="Fit a head to labeled texts.")
@click.argument("train", type=PATH)
@click.argument("out", type=PATH)
@MODEL
@label_options
@with_options(_OPTIONS)
@click.option("--test", type=PATH, help="Labeled texts to measure on afterwards.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@gathered(FitOptions, "options")
def fit(
    train: Path, out: Path, model: str, test: Path | None, overwrite: bool, labels: LabelOptions, options: FitOptions
) -> None:
    """Fit a head to the labeled texts in TRAIN and write it to the folder OUT.

    TRAIN is CSV, TSV, JSON Lines (each also .gz), Parquet, or a folder of datasets. Rows that cannot be used are
    written to OUT.rejected.jsonl with the reason. With --few-shot the model is adapted too, to about eight examples per
    label, if the adapted model predicts a held-out quarter of them better; the head then belongs to that model.
    """
    if out.exists() and not overwrite:
        raise click.UsageError(f"{out} exists; choose another folder, or --overwrite it.")
    options.check()
    run = _Run(model, train, out, labels, options, overwrite)
    if options.needs_training() and options.fine_tune:
        used = _fine_tuned(run)
    else:
        choice = _adapted(run) if options.few_shot else None
        used = model if choice is None or choice.model is None else str(choice.model)
        head = _fitted(run, used, choice)
        click.echo(f"wrote {out}: {len(head.labels)} labels, kind {head.scorer.kind}")
    if test is not None:
        measure(open_encoder(used), out, test, labels, train, None)


def _fitted(run: _Run, model: str, choice: Choice | None) -> FittedHead:
    from heads import RiskGuarantee, save_head
    from heads.workflows.fit import fit_file
    from heads.workflows.fit_data import FitJob

    options, scope, temperature = run.options, not run.options.no_scope, None
    if choice is not None and choice.model is not None:
        # The model has seen the examples, so their scores are too good to calibrate by, and they look more alike than
        # other texts of their labels will: the temperature comes from the trial, and scope is not judged.
        temperature = choice.trial.temperature if options.estimator == "linear" else 1.0
        if scope:
            click.echo("out of scope is not detected: to a model adapted to them, the examples look too much alike")
        scope = False
    job = FitJob(
        run.train,
        run.out,
        columns_of(run.labels),
        options.estimator,
        run.labels.split,
        RiskGuarantee(options.max_error_rate, options.min_coverage, options.confidence),
        options.held_out,
        options.out_of_scope,
        options.out_of_scope_label,
        scope,
        temperature,
        None if options.descriptions is None else descriptions_in(options.descriptions),
    )
    head = fit_file(open_encoder(model), job, click.echo)
    save_head(head, run.out, overwrite=run.overwrite)
    return head


def _examples(run: _Run) -> tuple[list[str], Any]:
    import numpy as np

    from heads.labeled import read_labels

    labeled = read_labels(run.train, run.out, columns_of(run.labels), run.labels.split, click.echo)
    inside = [row for row, label in enumerate(labeled.labels) if str(label) != run.options.out_of_scope_label]
    return [labeled.texts[row] for row in inside], np.array([labeled.labels[row] for row in inside])


def _fine_tuned(run: _Run) -> str:
    from encoder_tools.training.fine_tune import FineTune
    from heads import save_head
    from service.workflows.few_shot import fine_tune_head

    settings = FineTune(epochs=run.options.epochs, device=run.options.device)
    tuned = fine_tune_head(run.model, *_examples(run), run.target, settings, overwrite=run.overwrite, log=click.echo)
    save_head(tuned.head, run.out, overwrite=run.overwrite)
    click.echo(f"wrote {run.out}, and {tuned.model}: the model that belongs to it (--model {tuned.model})")
    return str(tuned.model)


def _adapted(run: _Run) -> Choice:
    from encoder_tools.training.few_shot import FewShot
    from service.workflows.few_shot import adapt_if_it_helps

    settings = FewShot(device=run.options.device)
    return adapt_if_it_helps(run.model, *_examples(run), run.target, settings, overwrite=run.overwrite, log=click.echo)


@click.command("describe", short_help="Write a zero-shot head from descriptions.")
@click.argument("descriptions", type=PATH)
@click.argument("out", type=PATH)
@MODEL
@click.option("--template", default="{}", show_default=True, help="Sentence that each description is put into.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def describe(descriptions: Path, out: Path, model: str, template: str, overwrite: bool) -> None:
    """Write a zero-shot head to OUT, which knows its labels by DESCRIPTIONS alone, without an example.

    DESCRIPTIONS is a JSON object of labels and descriptions, or a list of labels whose names describe them. With
    examples: fit --estimator zero-shot --descriptions.
    """
    from heads import save_head
    from heads.workflows.fit import describe_labels

    head = describe_labels(open_encoder(model), descriptions_in(descriptions), template)
    save_head(head, out, overwrite=overwrite)
    click.echo(f"wrote {out}: {len(head.labels)} labels by their descriptions")
