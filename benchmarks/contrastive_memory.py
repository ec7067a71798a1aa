"""Memory and time of one contrastive step at batch 64 and 4,096, beside sentence-transformers' cached loss.

    python -m benchmarks.contrastive_memory

Each runs in a process of its own, one thread, the model that ships, pairs of a bank customer's question and the name of
its intent, at most 4,096 tokens at a time. "Added" is the process's peak over what it had before its first step. The
result is ``benchmarks/results/contrastive_memory.json``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.serve_startup import machine
from encoder_tools.io.files import write_json
from service.demo.texts import read_corpus

RESULT = Path(__file__).parent / "results" / "contrastive_memory.json"
_TOKENS = 4096


def pairs(count: int) -> list[tuple[str, str]]:
    """Questions and the names of their intents."""
    return [(example.text, example.label.replace("_", " ")) for example in read_corpus().train[:count]]


def ours(model: Any, count: int) -> float:
    """Seconds of the second of two steps of encoder_tools.training."""
    import numpy as np

    from encoder_tools.training.data.examples import Example
    from encoder_tools.training.objectives.contrastive import ContrastiveObjective, tokenize
    from encoder_tools.training.recipe import DataSet, Recipe, Training

    data = DataSet("")
    recipe = Recipe("", (data,), Training(batch=count, tokens=_TOKENS))
    examples = [Example(*pair) for pair in pairs(count)]
    objective = ContrastiveObjective(recipe, model, [tokenize(model, data, examples, 128)])
    spent = 0.0
    for _ in range(2):
        begun = time.monotonic()
        objective.backward(np.arange(count))
        spent = time.monotonic() - begun
        model.zero_grad()
    return spent


def theirs(model: Any, count: int) -> float:
    """Seconds of the second of two steps of CachedMultipleNegativesRankingLoss, in both directions."""
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    loss = CachedMultipleNegativesRankingLoss(
        model, mini_batch_num_tokens=_TOKENS, directions=("query_to_doc", "doc_to_query")
    )
    sides = [list(side) for side in zip(*pairs(count), strict=True)]
    spent = 0.0
    for _ in range(2):
        begun = time.monotonic()
        loss([model.preprocess(side) for side in sides], None).backward()
        spent = time.monotonic() - begun
        model.zero_grad()
    return spent


@click.command()
@click.option("--one", nargs=3, help="Internal: WHICH COUNT FOLDER.")
def main(one: tuple[str, str, str] | None) -> None:
    """Measure, print, and write the result."""
    if one is not None:
        _one(*one)
        return
    from encoder_tools.onnx_export.unpack import unpack

    result: dict[str, Any] = {"machine": machine(), "tokens_at_a_time": _TOKENS}
    with tempfile.TemporaryDirectory() as folder:
        unpack("default", Path(folder) / "model")
        for which, count in (("ours", 64), ("ours", 4096), ("theirs", 4096)):
            command = [sys.executable, "-m", "benchmarks.contrastive_memory", "--one", which, str(count)]
            done = subprocess.run([*command, f"{folder}/model"], capture_output=True, text=True, check=True)
            result[f"{which} {count}"] = json.loads(done.stdout.splitlines()[-1])
            print(which, count, result[f"{which} {count}"])
    write_json(RESULT, result)


def _one(which: str, count: str, folder: str) -> None:
    import torch

    from encoder_tools.training.base_model import load_trainable

    torch.set_num_threads(1)
    model, _ = load_trainable(Path(folder), "cpu")
    model.eval().encode(["warm"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = (ours if which == "ours" else theirs)(model, int(count))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "pairs_per_s": round(int(count) / seconds, 1),
                "peak_mb": round(peak / 1024),
                "added_mb": round((peak - before) / 1024),
            }
        )
    )


if __name__ == "__main__":
    main()
