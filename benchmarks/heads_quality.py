"""Heads beside what people use instead: accuracy, calibration, guarantees, out-of-scope, label noise, and time.

    python -m benchmarks.heads_quality MODEL [--data ../shared/data] [--seeds 5] [--base FOLDER] [--setfit FILE]

MODEL is an exported folder or "default". With ``--base``, the same model for sentence-transformers ("default" unpacks
the one that ships), few-shot adaptation is measured too. ``--setfit`` is the log of ``benchmarks.heads_setfit``, which
runs in an environment of its own. Eight labels per class, drawn by seed; one thread for all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from threadpoolctl import threadpool_limits

from encoder_tools.runtime import OnnxEncoder
from heads import FittedHead, LinearHead, MultiLabelHead, PrototypeHead, ZeroShotHead, predict_all
from heads.estimators.multilabel import as_indicators
from heads.estimators.pipeline import Examples, RiskGuarantee, fit_head
from heads.evaluation import evaluate, examine
from heads.metrics import expected_calibration_error, log_loss

RESULTS = Path(__file__).parent / "results"
SETS = ("banking77", "clinc150", "trec")
SHOTS = 8
TREC_LABELS = {
    "ABBR": "an abbreviation",
    "DESC": "a description or definition",
    "ENTY": "a thing, an entity",
    "HUM": "a person",
    "LOC": "a place, a location",
    "NUM": "a number, a date, a quantity",
}
"""What TREC's codes stand for; the other sets' labels are words."""
_NOISE = 0.05


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--base")
    parser.add_argument("--setfit", type=Path)
    arguments = parser.parse_args()
    encoder = OnnxEncoder(arguments.model)
    sets = {name: Task(arguments.data / name, encoder) for name in SETS}
    result: dict[str, Any] = {"model": encoder.name, "shots": SHOTS, "seeds": arguments.seeds}
    with threadpool_limits(1):
        result["few labels"] = {name: few_labels(task, arguments.seeds, encoder) for name, task in sets.items()}
        if arguments.base:
            for name, task in sets.items():
                result["few labels"][name]["ours, few-shot"] = few_shot(task, arguments.base, arguments.seeds)
        if arguments.setfit:
            add_setfit(result["few labels"], arguments.setfit, encoder.name)
        result["all labels"] = {name: all_labels(task) for name, task in sets.items()}
        result["promise of 2 % errors, banking77"] = guarantees(sets["banking77"], arguments.seeds)
        result["out of scope, clinc150"] = scopes(sets["clinc150"], encoder)
        result["5 % flipped labels, banking77"] = noise(sets["banking77"])
        result["any number of labels, goemotions"] = emotions(arguments.data / "goemotions", encoder)
        result["ten heads, one text"] = many_heads(encoder)
    print(json.dumps(result, indent=2))
    (RESULTS / f"heads_{encoder.name}.json").write_text(json.dumps(result, indent=2) + "\n")


class Task:
    """A set, its vectors, and what is out of scope in it."""

    def __init__(self, folder: Path, encoder: OnnxEncoder) -> None:
        train, test = (_rows(folder / f"{part}.jsonl.gz") for part in ("train", "test"))
        self.known_outside = [row["text"] for row in train if row["label"] == "oos"]
        self.outside = encoder.encode([row["text"] for row in test if row["label"] == "oos"])
        train, test = ([row for row in rows if row["label"] != "oos"] for rows in (train, test))
        self.texts, self.test_texts = ([row["text"] for row in rows] for rows in (train, test))
        self.labels, self.test_labels = (np.array([row["label"] for row in rows]) for rows in (train, test))
        self.vectors, self.test_vectors = encoder.encode(self.texts), encoder.encode(self.test_texts)

    def draw(self, seed: int) -> NDArray[np.intp]:
        """Eight examples of each class."""
        rng = np.random.default_rng(seed)
        rows_by_label = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        return np.concatenate([rng.choice(own, min(SHOTS, len(own)), replace=False) for own in rows_by_label])


def few_labels(task: Task, seeds: int, encoder: OnnxEncoder) -> dict[str, dict[str, float]]:
    """Mean figures over draws."""
    names = TREC_LABELS if "HUM" in task.labels else sorted(set(task.labels.tolist()))
    methods: dict[str, Callable[[], Any]] = {
        "ours, linear": LinearHead,
        "ours, prototype": PrototypeHead,
        "ours, label names and examples": lambda: ZeroShotHead(encoder, names),
        "LogisticRegression": lambda: LogisticRegression(max_iter=300),
        "LogisticRegression, C=100": lambda: LogisticRegression(C=100.0, max_iter=300),
        "LogisticRegressionCV": lambda: LogisticRegressionCV(Cs=10, cv=5, max_iter=300),
    }
    figures = {
        name: mean([measured(make, task, task.draw(seed)) for seed in range(seeds)]) for name, make in methods.items()
    }
    zero = ZeroShotHead(encoder, names).fit()
    figures["ours, label names alone"] = {
        "accuracy": float((zero.predict(task.test_vectors) == task.test_labels).mean())
    }
    return figures


def all_labels(task: Task) -> dict[str, dict[str, float]]:
    """Figures with all examples."""
    every = np.arange(len(task.labels))
    return {
        "ours, linear": measured(LinearHead, task, every),
        "LogisticRegression": measured(lambda: LogisticRegression(max_iter=300), task, every),
        "LogisticRegression, C=100": measured(lambda: LogisticRegression(C=100.0, max_iter=300), task, every),
    }


def measured(make: Callable[[], Any], task: Task, chosen: NDArray[np.intp]) -> dict[str, float]:
    """Accuracy, log-loss and calibration error on the test set, and the time of one fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)
        began = time.perf_counter()
        model = make().fit(task.vectors[chosen], task.labels[chosen])
        seconds = time.perf_counter() - began
    shares = model.predict_proba(task.test_vectors)
    targets = np.searchsorted(model.classes_, task.test_labels)
    right = shares.argmax(axis=1) == targets
    return {
        "accuracy": float(right.mean()),
        "log_loss": log_loss(shares, targets),
        "calibration_error": expected_calibration_error(shares.max(axis=1), right),
        "seconds": seconds,
    }


def few_shot(task: Task, base: str, seeds: int) -> dict[str, float]:
    """The encoder adapted where that helps on held-out labels; the time with the trial, without loading and saving."""
    import torch

    from service.workflows.few_shot import adapt_if_it_helps_in_memory

    torch.set_num_threads(1)
    rows = []
    for seed in range(seeds):
        chosen = task.draw(seed)
        texts, labels = [task.texts[row] for row in chosen], task.labels[chosen]
        with tempfile.TemporaryDirectory() as work:
            began = time.perf_counter()
            adapter, choice = adapt_if_it_helps_in_memory(base, texts, labels, Path(work), log=print)
            temperature = choice.temperature if choice.helps else None
            examples = Examples(adapter.encode(texts), labels)
            head = fit_head(LinearHead(), examples, scope=False, temperature=temperature).head
            seconds = time.perf_counter() - began
        report = evaluate(head, adapter.encode(task.test_texts), task.test_labels)
        figures = {"accuracy": report.accuracy, "calibration_error": report.calibration_error}
        rows.append(figures | {"seconds": seconds, "adapted": float(choice.helps)})
        print(rows[-1], flush=True)
    return mean(rows)


def add_setfit(results: dict[str, Any], log: Path, model: str) -> None:
    """What SetFit gave in its own environment, as far as it got."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for name in results:
        own = [row for row in rows if row["set"] == name and row["model"] == model]
        if own:
            figures = mean([{"accuracy": row["accuracy"], "seconds": row["seconds"]} for row in own])
            results[name]["SetFit 1.2, 20 iterations"] = figures | {"seeds": len(own)}


def guarantees(task: Task, seeds: int) -> dict[str, Any]:
    """The share of errors among the answers, on the test set, over draws of what is held out."""
    rows = []
    for seed in range(seeds):
        train = Examples(task.vectors, task.labels)
        head = fit_head(LinearHead(), train, guarantee=RiskGuarantee(max_error_rate=0.02), scope=False, seed=seed).head
        kept = evaluate(head, task.test_vectors, task.test_labels).abstention
        assert kept is not None
        rows.append({"errors": kept.errors, "answered": kept.answered})
    return mean(rows) | {"worst_errors": max(row["errors"] for row in rows)}


def scopes(task: Task, encoder: OnnxEncoder) -> dict[str, Any]:
    """Area under the curve of the head's ood_score, chosen without an example out of scope, and of doubt alone.

    Lastly with the training file's examples out of scope.
    """
    figures = {}
    every, known = np.arange(len(task.labels)), encoder.encode(task.known_outside)
    ways = {"8 labels per class": (task.draw(0), None), "all labels": (every, None), "with examples": (every, known)}
    for name, (chosen, shown) in ways.items():
        head = fit_head(LinearHead(), Examples(task.vectors[chosen], task.labels[chosen]), outside=shown).head
        vectors = np.concatenate([task.test_vectors, task.outside])
        outside = np.arange(len(vectors)) >= len(task.test_vectors)
        assert head.scope is not None
        ood_scores = head.scope.ood_score(vectors, head.decision_function(vectors))
        rejected = ood_scores > head.scope.threshold
        figures[name] = {
            "method": head.scope.name,
            "auroc": float(roc_auc_score(outside, ood_scores)),
            "auroc_of_doubt": float(roc_auc_score(outside, 1 - head.predict_proba(vectors).max(axis=1))),
            "accepted_in_scope": float((~rejected[~outside]).mean()),
            "found_out_of_scope": float(rejected[outside].mean()),
        }
    return figures


def noise(task: Task) -> dict[str, float]:
    """How many of the first suspects were flipped, of as many as were flipped."""
    rng = np.random.default_rng(0)
    flipped = rng.permutation(len(task.labels))[: int(_NOISE * len(task.labels))]
    classes, numbers = np.unique(task.labels, return_inverse=True)
    numbers[flipped] = (numbers[flipped] + rng.integers(1, len(classes), len(flipped))) % len(classes)
    suspects = examine(LinearHead(C=100.0), task.vectors, classes[numbers]).suspects[: len(flipped)]
    return {"precision": float(np.isin([suspect.place for suspect in suspects], flipped).mean())}


def emotions(folder: Path, encoder: OnnxEncoder) -> dict[str, Any]:
    """F1 over 28 emotions, beside one logistic regression each."""
    train, test = (_rows(folder / f"{part}.jsonl.gz") for part in ("train", "test"))
    vectors, test_vectors = (encoder.encode([row["text"] for row in rows]) for rows in (train, test))
    classes, hits = as_indicators([row["labels"] for row in train])
    truth = as_indicators([row["labels"] for row in test], classes)[1]
    methods: dict[str, Any] = {
        "ours": MultiLabelHead(),
        "LogisticRegression": OneVsRestClassifier(LogisticRegression(max_iter=300)),
        "LogisticRegression, C=100": OneVsRestClassifier(LogisticRegression(C=100.0, max_iter=300)),
    }
    figures = {}
    for name, model in methods.items():
        began = time.perf_counter()
        model.fit(vectors, hits)
        seconds = time.perf_counter() - began
        given = model.predict(test_vectors)
        scores = {
            f"{kind}_f1": float(f1_score(truth, given, average=kind, zero_division=0)) for kind in ("micro", "macro")
        }
        figures[name] = scores | {"seconds": seconds}
    return figures


def many_heads(encoder: OnnxEncoder) -> dict[str, float]:
    """Milliseconds of the model, of nine and of ten heads of twenty labels, for one short text: medians."""
    rng = np.random.default_rng(0)
    heads = {
        str(number): FittedHead.linear(
            rng.standard_normal((20, encoder.dim)), np.zeros(20), tuple(f"label {n}" for n in range(20)), None
        )
        for number in range(10)
    }
    nine = {name: heads[name] for name in list(heads)[:9]}
    times = []
    for _ in range(500):
        began = time.perf_counter()
        vectors = encoder.encode(["Where is my card?"])
        encoded = time.perf_counter()
        predict_all(nine, vectors)
        judged = time.perf_counter()
        predict_all(heads, vectors)
        times.append((encoded - began, judged - encoded, time.perf_counter() - judged))
    model, with_nine, with_ten = (1000 * np.median(np.array(times), axis=0)).tolist()
    share = (with_ten - with_nine) / (model + with_nine)
    return {"model_ms": model, "nine_ms": with_nine, "ten_ms": with_ten, "tenth_share": share}


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure, and the spread of accuracy."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | ({"accuracy_sd": float(np.std([row["accuracy"] for row in rows]))} if "accuracy" in means else {})


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


if __name__ == "__main__":
    main()
