"""Train every body alike, measure, and write ``benchmarks/results/encoder_or_decoder.json``.

    python -m benchmarks.encoder_or_decoder --data ../shared/data [--seed 1 --seed 2 --seed 3] [--steps 200]

Models are small (two million weights) and trained from random weights in minutes, without pre-training: the
figures compare attention and pooling, they do not say how good a large model is. Each seed draws weights, pairs and
batches anew, the same for all bodies.
"""

from __future__ import annotations

import gc
import json
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.encoder_or_decoder import tasks
from benchmarks.encoder_or_decoder.bodies import ARRANGEMENTS, Arrangement, Body, Size
from benchmarks.encoder_or_decoder.training import (
    Classifier,
    Pieces,
    accuracy,
    encode,
    padded,
    train_classifier,
    train_embedder,
)
from benchmarks.serve_startup import machine
from encoder_tools.evaluation.metrics import retrieval_quality, sts_spearman
from encoder_tools.evaluation.tasks import public_tasks, read_pairs, read_retrieval
from encoder_tools.io.files import write_json

RESULT = Path(__file__).parent.parent / "results" / "encoder_or_decoder.json"
_VOCABULARY = 8_000
_PAIRS, _DECIDING = 96, 64  # in a batch
_RATE = 1e-3
_HELD_OUT = 1000
_EPOCHS = 2
_TOKENS = (32, 128)
_ROUNDS = 7


def run_seed(data: Path, seed: int, steps: int, arrangement: Arrangement) -> dict[str, float]:
    """One body: trained as an embedder, measured, then trained on as a classifier of each set."""
    sources = tasks.general_pairs(data, steps * _PAIRS // tasks.SOURCES + _HELD_OUT // tasks.SOURCES, seed)
    held_out = [pair for source in sources for pair in source[: _HELD_OUT // tasks.SOURCES]]
    general = [
        source[at : at + _PAIRS]  # of one source: texts of like lengths, and harder negatives
        for source in sources
        for at in range(_HELD_OUT // tasks.SOURCES, len(source) - _PAIRS + 1, _PAIRS)
    ]
    random.Random(seed).shuffle(general)
    films, unseen = tasks.labeled(data, tasks.FILMS)
    # first what the words of a text say, then that one word may turn it: both at once, no body learned in this budget
    count = len(general) * _DECIDING // 2
    judged = [
        *tasks.judged_pairs(films, count, seed),
        *tasks.judged_pairs(tasks.decided(films, None, seed), count + _DECIDING, seed),
    ]
    pairs = [pair for batch in general for pair in batch] + judged
    pieces = Pieces((text for pair in pairs for text in (pair.anchor, pair.positive)), _VOCABULARY)
    size = Size(len(pieces))
    body = Body(arrangement, size, seed)
    batches = [
        batch
        for step, batch_of_one in enumerate(general)
        for batch in (batch_of_one, judged[step * _DECIDING : (step + 1) * _DECIDING])
    ]
    figures = {"train_seconds": round(train_embedder(body, pieces, batches, _RATE), 1)}
    figures |= embedder_figures(body, pieces, data, held_out, unseen, seed)
    embedder = {name: value.clone() for name, value in body.state_dict().items()}
    for name in tasks.CLASSIFIERS:
        body.load_state_dict(embedder)
        train, test = tasks.labeled(data, name)
        torch.manual_seed(seed)
        model = Classifier(body, size.width, max(train.labels) + 1)
        train_classifier(model, pieces, train, _EPOCHS, _RATE, seed)
        figures[name] = 100 * accuracy(model, pieces, test)
        if name == tasks.FILMS:
            train_classifier(model, pieces, tasks.decided(films, None, seed), 1, _RATE, seed)
            for place in tasks.PLACES:
                figures[f"decided_{place}"] = 100 * accuracy(model, pieces, tasks.decided(unseen, place, seed))
    return {name: round(value, 2) for name, value in figures.items()}


def embedder_figures(
    body: Body, pieces: Pieces, data: Path, held_out: list[tasks.Pair], unseen: tasks.Labeled, seed: int
) -> dict[str, float]:
    """Points of 100."""
    sts, xquad = public_tasks(data, ("stsb-test", "xquad-en"))
    scored = read_pairs(sts)
    left, right = (
        encode(body, pieces, [getattr(pair, side) for pair in scored]) for side in ("sentence1", "sentence2")
    )
    retrieval = read_retrieval(xquad)
    quality = retrieval_quality(
        encode(body, pieces, retrieval.queries), encode(body, pieces, retrieval.documents), retrieval.relevant
    )
    anchors = encode(body, pieces, [pair.anchor for pair in held_out])
    positives = encode(body, pieces, [pair.positive for pair in held_out])
    hits = retrieval_quality(anchors, positives, [{at: 1} for at in range(len(held_out))])
    figures = {
        "stsb": 100 * sts_spearman(left, right, [pair.score for pair in scored]),
        "xquad_ndcg_10": 100 * quality.ndcg_10,
        "pairs_mrr_10": 100 * hits.mrr_10,
    }
    for place in tasks.PLACES:
        pairs = tasks.judged_pairs(tasks.decided(unseen, place, seed), 2 * len(unseen.texts), seed)
        text, right, wrong = (
            encode(body, pieces, texts)
            for texts in (
                [pair.anchor for pair in pairs],
                [pair.positive for pair in pairs],
                [pair.wrong or "" for pair in pairs],
            )
        )
        figures[f"judgment_{place}"] = 100 * float((((right - wrong) * text).sum(1) > 0).mean())
    return figures


@torch.inference_mode()
def cost(arrangement: Arrangement) -> dict[str, float]:
    """Milliseconds for a text in batches of 16, on one thread, the fastest of several rounds; megabytes of weights."""
    torch.set_num_threads(1)
    size = Size(_VOCABULARY)
    body = Body(arrangement, size, 0).eval()
    figures = {"megabytes": round(sum(weight.nbytes for weight in body.parameters()) / 1e6, 1)}
    for tokens in _TOKENS:
        batch = padded(torch.randint(4, size.vocabulary, (16, tokens)).tolist())
        seconds = []
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            body(*batch)
            seconds.append(time.perf_counter() - begun)
        figures[f"ms_{tokens}_tokens"] = round(1e3 * min(seconds) / 16, 3)
    return figures


def summary(runs: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Mean, lowest and highest over the seeds, by arrangement and figure."""
    made: dict[str, dict[str, list[float]]] = {}
    for name, seeds in runs.items():
        columns = {figure: [run[figure] for run in seeds.values()] for figure in next(iter(seeds.values()))}
        made[name] = {
            figure: [round(value, 2) for value in (sum(values) / len(values), min(values), max(values))]
            for figure, values in columns.items()
        }
    return made


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of the public sets.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True)
@click.option(
    "--body", "bodies", type=click.Choice([each.name for each in ARRANGEMENTS]), multiple=True, help="By default all."
)
@click.option("--steps", type=int, default=200, show_default=True, help="Batches of each kind.")
@click.option("--result", type=click.Path(path_type=Path), default=RESULT, help="What is in it is not run again.")
def main(data: Path, seeds: tuple[int, ...], bodies: tuple[str, ...], steps: int, result: Path) -> None:
    """Measure, write the result, and print a table."""
    known: dict[str, Any] = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {"runs": {}}
    for seed in seeds:
        for arrangement in ARRANGEMENTS:
            runs = known["runs"].setdefault(arrangement.name, {})
            if str(seed) in runs or (bodies and arrangement.name not in bodies):
                continue
            runs[str(seed)] = run_seed(data, seed, steps, arrangement)
            print(seed, arrangement.name, json.dumps(runs[str(seed)]), flush=True)
            known |= {"steps": steps, "size": asdict(Size(_VOCABULARY))}
            known["summary"] = summary({name: runs for name, runs in known["runs"].items() if runs})
            write_json(result, known)
            gc.collect()
    known |= {"cost": {arrangement.name: cost(arrangement) for arrangement in ARRANGEMENTS}, "machine": machine()}
    write_json(result, known)
    for name, figures in known["summary"].items():
        print(name, figures)


if __name__ == "__main__":
    main()
