"""What each ingredient of contrastive training is worth, from a raw encoder and from the model that ships.

    python -m benchmarks.training_ingredients --data ../shared/data --work WORK [--rows 6000] [--steps 60]

Health questions and their answers (MedQuAD), hard negatives mined by the model that ships; the same examples, steps and
seed in every row. Rows add up: each has what the one above it has. Measured on held-out questions (nDCG@10 among
held-out and 2,000 training answers), and on STS-B's development part: what it costs elsewhere. The soup is of two runs
that differ in their number of steps, and is judged by the same held-out questions, which flatters it a little. The raw
encoder is a random T5Gemma 2, extracted, with the shipped model's pieces. A row that is in WORK already is not run
again. The result is ``benchmarks/results/training_ingredients.json``.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import click

from benchmarks.serve_startup import machine
from encoder_tools.io.files import read_json, write_json

RESULT = Path(__file__).parent / "results" / "training_ingredients.json"
STARTS = ("shipped", "raw")
INGREDIENTS = {
    "InfoNCE": "",
    "+ hard negatives": "",
    "+ spread-out": "spread_out = 0.2\n",
    "+ teacher": "match = 2.0\ngeometry = 10.0\n",
}
_TURNS = (1, 2)  # in the soup
_RECIPE = """
base = "{base}"
[[data]]
file = "mined.jsonl"
held_out = 500
license = "cc-by-4.0"
{negatives}
[training]
steps = {steps}
batch = 64
rate = {rate}
table_rate = {rate}
longest = 64
save_every = 20
seed = 1
[objective]
{objective}
"""


def prepare(data: Path, work: Path, rows: int) -> None:
    """Write pairs with a mined negative each, and the raw encoder."""
    from encoder_tools import OnnxEncoder
    from encoder_tools.training.data.examples import read_examples, write_examples
    from encoder_tools.training.data.hard_negatives import mine
    from encoder_tools.training.recipe import DataSet

    if not (work / "mined.jsonl").is_file():
        pairs = DataSet("qa_medquad.tsv.gz", query="anchor", document="positive", limit=rows)
        examples = read_examples(pairs, data / "pairs", 1)
        mined = mine(OnnxEncoder("default"), examples.train)
        write_examples(work / "mined.jsonl", [row for row in mined.examples if row.negatives])
    if not (work / "raw").is_dir():
        make_raw(work)


def make_raw(work: Path) -> None:
    """A random T5Gemma 2 with the shipped model's pieces, extracted."""
    import torch
    import transformers

    from encoder_tools.extraction import extract
    from encoder_tools.model.shipped import model_path

    default = model_path("default")
    size = json.loads((default / "config.json").read_text())["vocab_size"]
    text = {
        "vocab_size": size,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 512,
        "sliding_window": 512,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    }
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    encoder = {"text_config": text, "vision_config": {**vision, "image_size": 16, "patch_size": 4}}
    config = transformers.T5Gemma2Config(encoder=encoder, decoder=text)
    checkpoint = work / "checkpoint"
    transformers.T5Gemma2ForConditionalGeneration(config).save_pretrained(checkpoint)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(default / name, checkpoint / name)
    extract(checkpoint, work / "raw")


def row(work: Path, start: str, name: str, steps: int, turn: int = 1) -> dict[str, Any]:
    """Train one row, or find it trained, and measure it.

    :param turn: a second one has fewer steps (another seed would hold other questions out).
    """
    from encoder_tools.training.run import train

    folder = work / f"{start}-{list(INGREDIENTS).index(name)}-{turn}"
    report = folder / "row.json"
    if report.is_file():
        return read_json(report)
    folder.mkdir(parents=True, exist_ok=True)
    for shared in ("mined.jsonl", "raw"):
        if not (folder / shared).exists():
            (folder / shared).symlink_to((work / shared).resolve())
    used = list(INGREDIENTS)[: list(INGREDIENTS).index(name) + 1]
    objective = "".join(INGREDIENTS[part] for part in used)
    negatives = 'negatives = ["negative_1"]' if "+ hard negatives" in used else ""
    objective += "hardness = 5.0\n" if negatives else ""
    objective += 'teacher = "default"\n' if start == "raw" else ""
    rate = 1e-4 if start == "shipped" else 1e-3
    base = "default" if start == "shipped" else "raw"
    steps = max(1, steps - 5 * (turn - 1))
    recipe = _RECIPE.format(base=base, negatives=negatives, steps=steps, rate=rate, objective=objective)
    (folder / "recipe.toml").write_text(recipe)
    trained = train(folder / "recipe.toml", folder / "model", work=folder / "run", log=click.echo, overwrite=True)
    before, after = trained.before["mined.jsonl"], trained.after["mined.jsonl"]
    cost = trained.cost.seconds if trained.cost else 0.0
    figures = {"start": start, "row": name, "before": before.value, "after": after.value, "seconds": cost}
    write_json(report, figures)
    return figures


def soup_row(work: Path, start: str) -> dict[str, Any]:
    """The greedy soup of runs that took a few more and fewer steps."""
    from encoder_tools.training.soup import soup

    last = len(INGREDIENTS) - 1
    folders = [work / f"{start}-{last}-{turn}" for turn in _TURNS]
    models = [folder / "model" for folder in folders]
    candidates = soup(folders[0] / "recipe.toml", models, work / f"{start}-soup", overwrite=True, log=click.echo)
    best = max(candidate.together for candidate in candidates if candidate.taken)
    return {"start": start, "row": "+ soup", "after": best, "taken": sum(candidate.taken for candidate in candidates)}


def sts(data: Path, folder: Path) -> float:
    """Spearman on STS-B's development part, by the sentence-transformers model."""
    import numpy as np

    from encoder_tools.evaluation.metrics import sts_spearman
    from encoder_tools.training.base_model import load_trainable

    model, _ = load_trainable(folder, "cpu")
    with gzip.open(data / "stsb" / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        pairs = [json.loads(line) for line in lines]
    left, right = (np.asarray(model.encode([pair[f"sentence{side}"] for pair in pairs])) for side in (1, 2))
    return round(sts_spearman(left, right, [pair["score"] for pair in pairs]), 4)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="The data folder.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
@click.option("--rows", default=6000, show_default=True, help="Pairs.")
@click.option("--steps", default=60, show_default=True)
def main(data: Path, work: Path, rows: int, steps: int) -> None:
    """Run every row."""
    from encoder_tools import OnnxEncoder

    work.mkdir(parents=True, exist_ok=True)
    prepare(data, work, rows)
    table: list[dict[str, Any]] = []
    for start in STARTS:
        first = len(table)
        for name in INGREDIENTS:
            folder = work / f"{start}-{list(INGREDIENTS).index(name)}-1"
            table.append({**row(work, start, name, steps), "sts_dev": sts(data, folder / "model")})
            click.echo(table[-1])
        for turn in _TURNS[1:]:
            row(work, start, list(INGREDIENTS)[-1], steps, turn)
        table.append({**soup_row(work, start), "sts_dev": sts(data, work / f"{start}-soup")})
        base = work / f"{start}-0-1" / "run" / "base" if start == "shipped" else work / "raw"
        before = {"start": start, "row": "before", "after": table[first]["before"], "sts_dev": sts(data, base)}
        table.insert(first, before)
        click.echo(before)
    shipped = OnnxEncoder("default").fingerprint
    write_json(RESULT, {"machine": machine(), "shipped": shipped, "steps": steps, "batch": 64, "rows": table})


if __name__ == "__main__":
    main()
