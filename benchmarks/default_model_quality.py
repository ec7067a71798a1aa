"""Quality of exported models on public sets, side by side.

    python benchmarks/default_model_quality.py --data DATA MODEL [MODEL ...]

Every model is encoded by the same runtime and measured by ``encoder_tools.evaluate``. The first MODEL is also measured
at narrower vectors on STS-B. Results go to ``benchmarks/results/default_model.json``; with ``--keep``, a model that is
in it under the same fingerprint is not measured again (the teacher alone takes a quarter of an hour on one core).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from encoder_tools.evaluate.measure import evaluate
from encoder_tools.evaluate.tasks import public_tasks
from encoder_tools.runtime import OnnxEncoder

RESULT = Path(__file__).parent / "results" / "default_model.json"
_DIMS = (64, 128, 256)
_NAMES = {
    ("stsb-dev", "spearman"): "stsb_dev_spearman",
    ("stsb-test", "spearman"): "stsb_test_spearman",
    ("banking77", "accuracy (8 a label)"): "banking77_accuracy_8_per_label",
    ("xquad-en", "ndcg@10"): "xquad_en_ndcg_10",
    ("scifact", "ndcg@10"): "scifact_test_ndcg_10",
    ("cranfield", "ndcg@10"): "cranfield_ndcg_10",
}


def measure(encoder: OnnxEncoder, data: Path, dims: Sequence[int]) -> dict[str, float]:
    """All figures of one model, and those of narrower vectors on STS-B."""
    sets = tuple(name for name, _ in _NAMES)
    figures = [
        figure
        for task in public_tasks(data, sets)
        for figure in evaluate(encoder, task, dims=dims if task.name == "stsb-test" else ())
    ]
    return {
        _NAMES[figure.task, figure.measure] + ("" if figure.dim == encoder.dim else f"_{figure.dim}_dims"): figure.value
        for figure in figures
        if (figure.task, figure.measure) in _NAMES
    }


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the evaluation sets.")
@click.option("--keep", is_flag=True, help="Keep the figures of models that have not changed.")
def main(models: tuple[Path, ...], data: Path, keep: bool) -> None:
    """Measure, print, and write the result."""
    known = json.loads(RESULT.read_text(encoding="utf-8")) if keep and RESULT.is_file() else {}
    result: dict[str, object] = {}
    for number, model in enumerate(models):
        encoder = OnnxEncoder(model)
        if known.get(encoder.name, {}).get("fingerprint") == encoder.fingerprint:
            result[encoder.name] = known[encoder.name]
            continue
        measured = measure(encoder, data, _DIMS if number == 0 else ())
        figures = {name: round(value, 4) for name, value in measured.items()}
        result[encoder.name] = {"fingerprint": encoder.fingerprint, **figures}
        print(json.dumps({encoder.name: figures}, indent=2))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
