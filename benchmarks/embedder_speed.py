"""Texts a second of models beside one another: same runtime, one thread, one run, their rounds interleaved.

    python -m benchmarks.embedder_speed PEER [MODEL ...]

PEER is an exported model, all-MiniLM-L6-v2 for the figures in ``results/embedder_speed.json``; without MODEL, the one
that ships. Short texts are customers' questions of Banking77; mixed ones are questions and paragraphs of XQuAD, one
paragraph for three questions.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click

from benchmarks.serve_startup import machine
from encoder_tools.io.files import write_json
from encoder_tools.runtime import OnnxEncoder
from service.demo.texts import read_corpus

RESULT = Path(__file__).parent / "results" / "embedder_speed.json"
_ROUNDS = 7


def texts() -> dict[str, list[str]]:
    """The sets of texts by name."""
    corpus = read_corpus()
    paragraphs = [paragraph.text for paragraph in corpus.paragraphs[:100]]
    return {
        "short": [example.text for example in corpus.test[:800]],
        "mixed": [*paragraphs, *(question.text for question in corpus.questions[:300])],
    }


def rates(encoders: list[OnnxEncoder], batch: list[str]) -> list[float]:
    """Median texts per second of each encoder."""
    seconds: list[list[float]] = [[] for _ in encoders]
    for encoder in encoders:
        encoder.encode(batch)  # warm
    for _ in range(_ROUNDS):
        for number, encoder in enumerate(encoders):
            begun = time.perf_counter()
            encoder.encode(batch)
            seconds[number].append(time.perf_counter() - begun)
    return [len(batch) / statistics.median(row) for row in seconds]


@click.command()
@click.argument("peer")
@click.argument("models", nargs=-1)
@click.option("--write/--no-write", default=True, help="Write the result file.")
def main(peer: str, models: tuple[str, ...], write: bool) -> None:
    """Measure, print, and write the result."""
    names = [peer, *(models or ("default",))]
    encoders = [OnnxEncoder(name, threads=1) for name in names]
    result: dict[str, object] = {"machine": machine(), "peer": encoders[0].name}
    for kind, batch in texts().items():
        figures = rates(encoders, batch)
        result[kind] = {
            encoder.name: {"texts_per_s": round(rate, 1), "times_the_peer": round(rate / figures[0], 2)}
            for encoder, rate in zip(encoders, figures, strict=True)
        }
        print(kind, result[kind])
    if write:
        write_json(RESULT, result)


if __name__ == "__main__":
    main()
