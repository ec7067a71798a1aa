"""``encoder-tools evaluate``: how good a model's vectors are, in the protocols the field publishes figures in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.cli.options import RenamingCommand, gathered

if TYPE_CHECKING:
    from encoder_tools.evaluation.evaluate import Figure
    from encoder_tools.evaluation.tasks import Task
    from encoder_tools.protocols import TextEncoder

_SHAPES = {
    "sts": "JSON Lines of sentence1, sentence2, score.",
    "classification": "Folder with train.jsonl and test.jsonl of text, label.",
    "clustering": "JSON Lines of text, label.",
    "retrieval": "Folder with corpus.jsonl, queries.jsonl and qrels.tsv, as BEIR has them.",
    "agreement": "One text per line; the cosine between MODEL's vectors and those of --documents-model.",
}


@dataclass(frozen=True)
class OwnSets:
    """Files and folders of evaluation sets, by what they measure."""

    sts: tuple[Path, ...]
    classification: tuple[Path, ...]
    clustering: tuple[Path, ...]
    retrieval: tuple[Path, ...]
    agreement: tuple[Path, ...]


def _kind_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for kind, shape in reversed(_SHAPES.items()):
        option = click.option(
            f"--{kind}", type=click.Path(path_type=Path), multiple=True, help=f"Your own set: {shape}"
        )
        command = option(command)
    return command


@click.command("evaluate", cls=RenamingCommand, renamed={"--beside": "--compare-with"})
@click.argument("model", default="default")
@_kind_options
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the public sets.")
@click.option("--set", "names", multiple=True, help="Public set to measure; repeat it for several.  [default: all]")
@click.option("--dims", help="Widths to measure beside the model's own, such as 64,128.")
@click.option("--documents-model", help="Another model of the same space, for the documents of retrieval sets.")
@click.option("--compare-with", "beside", help="A second model, whose figures are shown in a column of their own.")
@click.option("--torch", "with_torch", is_flag=True, help="Run with sentence-transformers instead of the ONNX export.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the figures over the widths, a PNG.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file too.")
@gathered(OwnSets, "own")
def command(
    model: str,
    data: Path | None,
    names: tuple[str, ...],
    dims: str | None,
    documents_model: str | None,
    beside: str | None,
    with_torch: bool,
    plot_file: Path | None,
    json_file: Path | None,
    own: OwnSets,
) -> None:
    """Measure MODEL, an exported model folder or "default": the model that ships.

    STS (Spearman of cosines), retrieval (nDCG@10, recall, MRR@10), classification (8 texts per label, mean of ten draws
    of logistic regression as in MTEB, and on all training texts), clustering (V-measure), agreement with another model
    (cosine). Figures are percentages; the files keep them as they are. Needs the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "pytrec_eval", "sentence_transformers")
    from encoder_tools.evaluation.evaluate import evaluate

    if beside == model:
        raise click.UsageError(f"--compare-with names {model} itself; name another model.")
    tasks = _tasks(data, names, own)
    widths = _widths(dims)
    encoder = _open(model, with_torch)
    documents = _open(documents_model, with_torch) if documents_model else None
    if documents is not None and documents.dim != encoder.dim:
        raise click.UsageError(f"The documents' model is {documents.dim} wide, {model} is {encoder.dim}.")
    other = _open(beside, with_torch) if beside else None
    measured: dict[str, list[Figure]] = {name: [] for name in (model, beside) if name}
    click.echo(f"{'set':<20} {'measure':<22} {'width':>5}  " + "  ".join(f"{_short(name):>12}" for name in measured))
    for task in tasks:
        figures = evaluate(encoder, task, dims=widths, documents=documents)
        measured[model] += figures
        theirs = evaluate(other, task, dims=widths, documents=documents) if other is not None else []
        if beside:
            measured[beside] += theirs
        values = {(figure.measure, figure.dim): figure.value for figure in theirs}
        for figure in figures:
            _say(figure, values.get((figure.measure, figure.dim)), compared=other is not None)
    if json_file is not None:
        _write(json_file, [encoder, *([other] if other is not None else [])], documents, measured)
    if plot_file is not None:
        from encoder_tools.evaluation.plot import draw_figures

        draw_figures(measured, plot_file)


def _tasks(data: Path | None, names: Sequence[str], own: OwnSets) -> list[Task]:
    from encoder_tools.evaluation.tasks import PUBLIC_SETS, Task, public_tasks

    unknown = [name for name in names if name not in PUBLIC_SETS]
    if unknown:
        raise click.UsageError(f"There is no public set {unknown[0]!r}; there are {', '.join(PUBLIC_SETS)}.")
    if names and data is None:
        raise click.UsageError("--set needs --data, the folder of the public sets.")
    tasks = public_tasks(data, tuple(names) or PUBLIC_SETS) if data is not None else []
    tasks += [Task(path.name.partition(".")[0], kind, path) for kind, paths in vars(own).items() for path in paths]  # type: ignore[arg-type]
    if not tasks:
        raise click.UsageError("Nothing to measure. Name your own sets (--sts FILE, ...), or --data FOLDER.")
    return tasks


def _widths(dims: str | None) -> list[int]:
    try:
        widths = [int(part) for part in dims.split(",")] if dims else []
    except ValueError:
        widths = [0]
    if any(width < 1 for width in widths):
        raise click.UsageError(f"--dims is {dims!r}, expected positive widths such as 64,128.")
    return widths


def _open(model: str, with_torch: bool) -> TextEncoder:
    if with_torch:
        from encoder_tools.evaluation.torch_encoder import TorchEncoder
        from encoder_tools.model.shipped import model_path

        return TorchEncoder(model_path(model))
    from service.serving.loading import load_encoder

    return load_encoder(model)


def _short(name: str) -> str:
    return Path(name).name[-12:]


def _say(figure: Figure, other: float | None, *, compared: bool) -> None:
    line = f"{figure.task:<20} {figure.measure:<22} {figure.dim:>5}  {100 * figure.value:12.2f}"
    click.echo(line + (f"  {'-' if other is None else f'{100 * other:.2f}':>12}" if compared else ""))


def _write(
    path: Path, encoders: Sequence[TextEncoder], documents: TextEncoder | None, measured: dict[str, list[Figure]]
) -> None:
    from dataclasses import asdict

    from encoder_tools.io.files import write_json

    content = {
        "format": "encoder-tools-evaluation",
        "format_version": 2,
        "documents_fingerprint": None if documents is None else documents.fingerprint,
        "models": [
            {"model": name, "fingerprint": encoder.fingerprint, "figures": [asdict(figure) for figure in figures]}
            for (name, figures), encoder in zip(measured.items(), encoders, strict=True)
        ],
    }
    write_json(path, content)
