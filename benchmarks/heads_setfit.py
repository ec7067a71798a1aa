"""SetFit 1.2 on the sets of ``benchmarks.heads_quality``, the same draws; in an environment of its own.

    pip install torch "setfit==1.2.0" "transformers<5" "sentence-transformers<6" datasets
    python benchmarks/heads_setfit.py BASE NAME LOG trec,banking77 5 --data ../shared/data

Twenty iterations (the paper's: twenty positive and twenty negative pairs a text), batches of sixteen, one thread. A
draw is a line in LOG; those that are there are not made again. BASE is a folder that sentence-transformers 5 loads,
NAME what the model is called in LOG.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

_SHOTS, _ITERATIONS, _BATCH = 8, 20, 16


def main() -> None:
    """Train and test, draw by draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("name")
    parser.add_argument("log", type=Path)
    parser.add_argument("sets")
    parser.add_argument("seeds", type=int)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    done = [json.loads(line) for line in arguments.log.read_text().splitlines()] if arguments.log.exists() else []
    known = {(row["set"], row["seed"], row["model"]) for row in done}
    for seed in range(arguments.seeds):
        for name in arguments.sets.split(","):
            if (name, seed, arguments.name) not in known:
                row = {"set": name, "seed": seed, "model": arguments.name, "iterations": _ITERATIONS}
                row |= one_draw(arguments.base, arguments.data / name, seed)
                print(row, flush=True)
                with arguments.log.open("a") as log:
                    log.write(json.dumps(row) + "\n")


def one_draw(base: str, folder: Path, seed: int) -> dict[str, float]:
    """Accuracy on the test set, and the seconds of training."""
    import torch
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    train, test = ([r for r in _rows(folder / f"{part}.jsonl.gz") if r["label"] != "oos"] for part in ("train", "test"))
    labels = np.array([row["label"] for row in train])
    rng = np.random.default_rng(seed)
    rows_by_label = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    chosen = np.concatenate([rng.choice(own, min(_SHOTS, len(own)), replace=False) for own in rows_by_label])
    number = {label: column for column, label in enumerate(np.unique(labels).tolist())}
    examples = {"text": [train[i]["text"] for i in chosen], "label": [number[train[i]["label"]] for i in chosen]}
    model = SetFitModel.from_pretrained(base)
    settings = TrainingArguments(
        batch_size=_BATCH, num_epochs=1, num_iterations=_ITERATIONS, seed=seed, save_strategy="no", report_to="none"
    )
    began = time.perf_counter()
    Trainer(model=model, args=settings, train_dataset=Dataset.from_dict(examples)).train()
    seconds = time.perf_counter() - began
    given = np.asarray(model.predict([row["text"] for row in test]))
    right = given == np.array([number[row["label"]] for row in test])
    return {"accuracy": float(right.mean()), "seconds": seconds}


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


if __name__ == "__main__":
    main()
