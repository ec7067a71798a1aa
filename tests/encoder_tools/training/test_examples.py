"""What a recipe's data can be: every shape, every kind of file, repetitions exact and near, mistakes named."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.onnx_export.unpack import unpack
from encoder_tools.training.base_model import load_trainable
from encoder_tools.training.data.examples import read_examples
from encoder_tools.training.data.near_duplicates import NearTexts
from encoder_tools.training.objectives.contrastive import ContrastiveObjective, tokenize
from encoder_tools.training.recipe import DataSet, read_recipe
from encoder_tools.training.run import train

COLORS = ("red green blue white black gray".split(), "colour")
ANIMALS = ("horse cow goat sheep duck hen".split(), "animal")


def labeled(path: Path, *, alone: bool = False) -> None:
    """Sentences about colors and about animals."""
    rows = [
        {"text": f"{verb} the {word} {place}", "label": label}
        for words, label in (COLORS, ANIMALS)
        for word in words
        for verb in ("see", "take", "find")
        for place in ("here", "there")
    ]
    rows += [{"text": "nothing at all", "label": "other"}] if alone else []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(root: Path, recipe: str, name: str = "out") -> Any:
    (root / "recipe.toml").write_text(recipe)
    return train(root / "recipe.toml", root / name, work=root / f"work-{name}")


def test_every_kind_of_file_gives_the_same_examples(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet

    rows = [{"query": f'a "{n}" b', "document": f"answer, {n}"} for n in range(12)]
    plain = [{"query": f"a {n}", "document": f"answer {n}"} for n in range(12)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(lines)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "c.parquet")
    quoted = "".join('"{}","{}"\n'.format(row["query"].replace('"', '""'), row["document"]) for row in rows)
    (tmp_path / "d.csv").write_text("query,document\n" + quoted)
    (tmp_path / "h.tsv").write_text(
        "query\tdocument\n" + "".join(f"{row['query']}\t{row['document']}\n" for row in rows)
    )
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "e"))
    DatasetDict({"train": Dataset.from_list(rows), "test": Dataset.from_list(plain)}).save_to_disk(str(tmp_path / "f"))
    (tmp_path / "g" / "data").mkdir(parents=True)
    for part in (0, 1):
        table = pyarrow.Table.from_pylist(rows[6 * part : 6 * part + 6])
        pyarrow.parquet.write_table(table, tmp_path / "g" / "data" / f"train-0000{part}-of-00002.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), tmp_path / "g" / "data" / "test.parquet")
    names = ("a.jsonl", "b.jsonl.gz", "c.parquet", "d.csv", "e", "f", "g", "h.tsv")
    found = [read_examples(DataSet(name), tmp_path, 1) for name in names]
    assert {(row.query, row.document) for row in found[0].train} == {(row["query"], row["document"]) for row in rows}
    assert all(part == found[0] for part in found)
    (tmp_path / "y.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(FileCorruptError, match="Parquet"):
        read_examples(DataSet("y.parquet"), tmp_path, 1)
    tests = [read_examples(DataSet(name, split="test"), tmp_path, 1) for name in ("f", "g")]
    assert {row.query for row in tests[0].train} == {row["query"] for row in plain}
    assert tests[0] == tests[1]


def test_labeled_texts_are_paired_within_their_label_without_growing_by_the_square(tmp_path: Path):
    labeled(tmp_path / "a.jsonl", alone=True)
    settings = DataSet("a.jsonl", text="text", label="label", positives=3)
    found = read_examples(settings, tmp_path, 1)
    assert found.facts["alone in their label"] == 1
    assert len(found.train) == 3 * 72
    assert set(Counter(row.query for row in found.train).values()) == {3}
    assert set(Counter(row.document for row in found.train).values()) == {3}
    pairs = {frozenset((row.query, row.document)) for row in found.train}
    assert len(pairs) == 3 * 72
    animal = [row.label == "animal" for row in found.train]
    words = [{row.query.split()[2], row.document.split()[2]} <= set(ANIMALS[0]) for row in found.train]
    assert animal == words


LABELLED = """
base = "default"
[[data]]
file = "a.jsonl"
text = "text"
label = "label"
held_out = 12
[training]
epochs = 6
batch = 30
rate = 1e-3
save_every = 1
[objective]
spread_out = 0.5
"""


def test_labeled_texts_teach(tmp_path: Path):
    labeled(tmp_path / "a.jsonl")
    trained = run(tmp_path, LABELLED)
    assert trained.after["a.jsonl"].measure == "accuracy"
    assert trained.after["a.jsonl"].value >= trained.before["a.jsonl"].value
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    colors, animals = (model.encode([f"see the {word} here" for word in words]) for words, _ in (COLORS, ANIMALS))
    assert np.mean([(part @ part.T).mean() for part in (colors, animals)]) > 0.7
    assert (colors @ animals.T).mean() < 0.2


def test_texts_of_one_label_are_never_each_others_negatives(tmp_path: Path):
    labeled(tmp_path / "a.jsonl")
    (tmp_path / "recipe.toml").write_text(LABELLED)
    recipe = read_recipe(tmp_path / "recipe.toml")
    examples = read_examples(recipe.data[0], tmp_path, 1).train
    unpack("default", tmp_path / "base")
    model, _ = load_trainable(tmp_path / "base", "cpu")
    objective = ContrastiveObjective(recipe, model, [tokenize(model, recipe.data[0], examples, 32)])
    animals = np.array([place for place, row in enumerate(examples) if row.label == "animal"])
    told = objective.backward(animals[:16])
    assert (told["info_nce"], told["spread_out"]) == (0.0, 0.0)  # nothing is left to be told apart
    assert objective.backward(np.arange(16))["info_nce"] > 0.1


def test_plain_texts_are_taught_by_a_teacher_alone(tmp_path: Path):
    labeled(tmp_path / "a.jsonl")
    recipe = """
base = "student"
[[data]]
file = "a.jsonl"
text = "text"
[training]
epochs = 10
batch = 24
rate = 1e-3
[objective]
match = 1.0
teacher = "default"
"""
    unpack("default", tmp_path / "student")
    table = load_file(tmp_path / "student" / "model.safetensors")
    torch.manual_seed(0)
    table["embed_tokens.weight"] += 0.02 * torch.randn_like(table["embed_tokens.weight"])
    save_file(table, tmp_path / "student" / "model.safetensors")
    said: list[str] = []
    (tmp_path / "recipe.toml").write_text(recipe)
    train(tmp_path / "recipe.toml", tmp_path / "out", work=tmp_path / "work", log=said.append)
    log = [json.loads(line) for line in (tmp_path / "work" / "train.jsonl").read_text().splitlines()]
    assert set(log[0]) == {"step", "loss", "match", "geometry", "texts_per_s"}
    assert log[-1]["match"] < 0.02


def test_nearly_equal_texts_are_left_out_of_training_and_away_from_what_is_held_out(tmp_path: Path):
    long = (
        "the quick brown fox number {n} jumps over the lazy dog and runs into the forest, on the {n}th day of the month"
    )
    rows = [{"query": f"what does fox {name} do", "document": long.format(n=n)} for n, name in enumerate("abcdefgh")]
    words = np.random.default_rng(0).permutation([f"w{n:04d}" for n in range(600)]).reshape(60, 10)
    rows += [{"query": f"{a} {b} {c}", "document": " ".join(rest)} for a, b, c, *rest in words]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exact = read_examples(DataSet("a.jsonl"), tmp_path, 1)
    near = read_examples(DataSet("a.jsonl", near_duplicates=0.5), tmp_path, 1)
    assert len(exact.train) == 68
    assert len(near.train) == 61
    assert near.facts["nearly equal to another one or to a held-out one"] == 7
    for seed in range(30):  # until a fox is held out
        part = read_examples(DataSet("a.jsonl", near_duplicates=0.5, held_out=20), tmp_path, seed)
        if any("fox" in row.query for row in part.held_out):
            assert not any("fox" in row.query for row in part.train)
            return
    pytest.fail("no fox was held out")


def test_near_means_a_share_of_common_pieces():
    found = NearTexts(0.5)
    found.add("abcdefghij")  # six pieces of five
    assert found.has_near("abcdefghij")
    assert found.has_near("abcdefghi")  # five of six
    assert not found.has_near("vwxyzefghij")
    found.add("")
    assert found.has_near("")


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        ('file = "a.jsonl"\nlabel = "label"', InputError, "Set text to the column"),
        ('file = "a.jsonl"\ntext = "text"', InputError, "plain texts, which teach nothing"),
        ('file = "a.jsonl"\ntext = "text"\nlabel = "label"\nscore = "x"', InputError, "neither"),
        ('file = "a.jsonl"\ntext = "text"\nlabel = "label"\npositives = 0', InputError, "positives = 0"),
        ('file = "a.jsonl"\ntext = "text"\nlabel = "labl"', InputError, "Did you mean 'label'"),
        ('file = "a.jsonl"\ntext = "text"\nlabel = "label"\nnear_duplicates = 2.0', InputError, "near_duplicates"),
        ('file = "bad.jsonl"\ntext = "text"\nlabel = "label"', FileCorruptError, "row 2: the label is"),
        ('file = "a.jsonl"\ntext = "text"\nlabel = "text"', InputError, "leaves 0 examples"),
        ('file = "one.jsonl"\ntext = "text"\nlabel = "label"', InputError, "has one label, 'x'"),
        ('file = "empty"', FileMissingError, "no split 'train', found no Parquet file"),
        ('file = "saved"\nsplit = "dev"', FileMissingError, "it has train"),
        ('file = "broken"', FileCorruptError, "cannot be read as a folder of datasets"),
    ],
)
def test_a_set_that_cannot_be_read_is_one_clear_error(tmp_path: Path, table: str, error: type[Exception], says: str):
    labeled(tmp_path / "a.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": null}\n')
    (tmp_path / "one.jsonl").write_text("".join(f'{{"text": "a {n}", "label": "x"}}\n' for n in range(9)))
    (tmp_path / "empty").mkdir()
    DatasetDict({"train": Dataset.from_list([{"query": "a", "document": "b"}])}).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{}")
    with pytest.raises(error, match=says):
        run(tmp_path, f'base = "default"\n[[data]]\n{table}\n')


def test_the_shape_of_a_set_follows_from_what_is_set(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text(
        'base = "default"\n[objective]\nmatch = 1.0\n[[data]]\nfile = "a"\n[[data]]\nfile = "b"\nscore = "s"\n'
        '[[data]]\nfile = "c"\ntext = "t"\nlabel = "l"\n[[data]]\nfile = "d"\ntext = "t"\n'
    )
    shapes = [row.shape for row in read_recipe(tmp_path / "recipe.toml").data]
    assert shapes == ["pairs", "scored", "labeled", "plain"]
