"""The variants of a model beside its exact one: cosine, quality and speed on this machine.

    python -m benchmarks.precision MODEL --data FOLDER

MODEL is "default" or an exported folder; FOLDER holds ``sentences.tsv.gz`` (columns source and text), ``stsb`` and
``scifact``. Speeds are measured in turns, texts of one length at a time, on one thread.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click

from encoder_tools.evaluation.evaluate import evaluate
from encoder_tools.evaluation.tasks import public_tasks
from encoder_tools.machine.processor import this_processor
from encoder_tools.runtime import OnnxEncoder

RESULT = Path(__file__).parent / "results" / "precision.json"
TEXTS, SEED = 2_000, 7
LENGTHS = (16, 64, 128, 256)
ROUNDS = 7
TASKS = ("stsb-test", "scifact")


@dataclass(frozen=True)
class Figures:
    """One variant against fp32.

    :ivar mean_cosine: over 2,000 sentences; ``min_cosine``, the worst.
    :ivar quality: of the evaluation's tasks, in points; ``difference``, to fp32.
    :ivar speedup: texts/s over those of fp32, by tokens of a text.
    """

    mean_cosine: float
    min_cosine: float
    quality: dict[str, float]
    difference: dict[str, float]
    speedup: dict[str, float]


def measure(model: str, data: Path) -> dict[str, Figures]:
    """All variants of a model that run on a CPU, by name."""
    exact = OnnxEncoder(model, threads=1)
    names = [name for name in exact.manifest.graphs if name not in ("fp32", "bf16")]
    lines = gzip.open(data / "sentences.tsv.gz", "rt", encoding="utf-8").read().splitlines()[1:]
    texts = random.Random(SEED).sample([line.split("\t", 1)[1] for line in lines], TEXTS)
    expected, quality = exact.encode(texts), _quality(OnnxEncoder(model), data)
    lengths = [length for length in LENGTHS if length <= (exact.max_length or length)]
    result = {}
    for name in names:
        encoder = OnnxEncoder(model, variant=name, threads=1)
        cosines = (expected * encoder.encode(texts)).sum(axis=1)
        own = _quality(OnnxEncoder(model, variant=name), data)
        result[name] = Figures(
            round(float(cosines.mean()), 5),
            round(float(cosines.min()), 5),
            own,
            {task: round(own[task] - quality[task], 2) for task in own},
            {str(length): _speedup(exact, encoder, length) for length in lengths},
        )
    return result


def _quality(encoder: OnnxEncoder, data: Path) -> dict[str, float]:
    figures = [figure for task in public_tasks(data, TASKS) for figure in evaluate(encoder, task)]
    return {f"{figure.task} {figure.measure}": round(100 * figure.value, 2) for figure in figures}


def _speedup(exact: OnnxEncoder, other: OnnxEncoder, length: int) -> float:
    ids = [[random.Random(row).randrange(100, 5_000) for _ in range(length)] for row in range(2048 // length)]
    times: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(ROUNDS):
        for number, encoder in enumerate((exact, other)):
            start = time.perf_counter()
            encoder.encode_tokens(ids)
            times[number].append(time.perf_counter() - start)
    return round(median(times[0]) / median(times[1]), 2)


@click.command()
@click.argument("model")
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="Folder with the texts.")
def main(model: str, data: Path) -> None:
    """Measure, print and write the result."""
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    name = Path(model).name
    known[name] = {variant: asdict(figures) for variant, figures in measure(model, data).items()}
    known[name]["processor"] = this_processor().features
    RESULT.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps(known[name], indent=2))


if __name__ == "__main__":
    main()
