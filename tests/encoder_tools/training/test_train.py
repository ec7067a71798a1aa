"""From a file of pairs to a trained model: recipe, data, slices, a kill, and every mistake with its one line."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny import make_checkpoint

from encoder_tools import OnnxEncoder
from encoder_tools.errors import CheckpointError, FileCorruptError, FileMissingError, FingerprintError, InputError
from encoder_tools.extraction import extract
from encoder_tools.onnx_export import export
from encoder_tools.training.data.batch_sampler import batches_of_an_epoch, batches_of_sets
from encoder_tools.training.data.examples import read_examples
from encoder_tools.training.recipe import DataSet, read_recipe
from encoder_tools.training.run import train
from service.cli import cli

RECIPE = """
base = "base"
[[data]]
file = "pairs.csv"
held_out = 20
[training]
epochs = 4
batch = 16
tokens = 256
rate = 3e-3
table_rate = 3e-3
save_every = 4
"""
WORDS = "amber basil cedar daisy ember fern ginger hazel iris jasmine kale lemon maple nettle olive poppy".split()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    extract(make_checkpoint("t5gemma2", folder / "checkpoint"), folder / "base")
    return folder / "base"


@pytest.fixture
def root(base: Path, tmp_path: Path) -> Path:
    """Pairs whose sides share two words, and a recipe for them."""
    (tmp_path / "base").symlink_to(base)
    random = np.random.default_rng(0)
    rows = ["query,document"]
    for number in range(140):
        left, right = random.choice(WORDS, 2, replace=False)
        rows.append(f'"where is {left} {right} {number}","the {right} and {left}, no {number}."')
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def run(root: Path, name: str = "out", change: Callable[[str], str] = lambda text: text, **options: Any) -> Any:
    (root / "recipe.toml").write_text(change(RECIPE))
    return train(root / "recipe.toml", root / name, work=root / f"work-{name}", **options)


def test_training_makes_a_better_model_and_says_how_much(root: Path):
    """The shipped model learns a code of sixteen words, and reads pairs of them that it never saw together."""
    code = dict(zip(WORDS, WORDS[5:] + WORDS[:5], strict=True))
    pairs = [f"{a} and {b},{code[b]} or {code[a]}" for a in WORDS for b in WORDS if a != b]
    (root / "pairs.csv").write_text("\n".join(["query,document", *pairs]) + "\n")
    said: list[str] = []
    recipe = RECIPE.replace('"base"', '"default"').replace("3e-3", "1e-3") + "[objective]\ndims = [4]\n"
    trained = run(root, log=said.append, change=lambda _: recipe)
    assert trained.done
    before, after = trained.before["pairs.csv"], trained.after["pairs.csv"]
    assert after.value > before.value + 0.2
    assert before.by_dim[4] < after.by_dim[4] != after.value
    assert trained.plan.steps == 4 * (220 // 16)
    assert "20 held out" in said[0]
    model = SentenceTransformer(str(root / "out"), device="cpu")
    assert np.allclose(np.linalg.norm(model.encode(["where is amber"]), axis=1), 1, atol=1e-5)
    written = json.loads((root / "out" / "training.json").read_text())
    assert written["after"]["pairs.csv"]["value"] == after.value
    card = (root / "out" / "README.md").read_text()
    assert f"| pairs.csv | nDCG@10 | all | {100 * before.value:.2f} | {100 * after.value:.2f} | 20 |" in card
    assert (root / "work-out" / "curves.png").is_file()
    export(root / "out")
    texts = ["where is amber", "the olive"]
    np.testing.assert_allclose(OnnxEncoder(root / "out").encode(texts), model.encode(texts), atol=1e-5)


def test_the_card_names_data_settings_widths_and_cost_and_hugging_face_reads_it(root: Path):
    table = 'license = "cc0-1.0"\nquery_prompt = "q: "\nheld_out = 20'
    recipe = RECIPE.replace("held_out = 20", table) + "[objective]\ndims = [16, 8]\nspread_out = 0.1\n"
    recipe = recipe.replace("epochs = 4", "steps = 6")
    trained = run(root, change=lambda _: recipe, minutes=0)
    while not trained.done:
        trained = run(root, change=lambda _: recipe, minutes=0)
    before, after = trained.before["pairs.csv"], trained.after["pairs.csv"]
    card = ModelCard.load(root / "out" / "README.md")
    assert card.data.library_name == "sentence-transformers"
    assert card.data.pipeline_tag == "sentence-similarity"
    for dim in (16, 8):
        row = f"| pairs.csv | nDCG@10 | {dim} | {100 * before.by_dim[dim]:.2f} | {100 * after.by_dim[dim]:.2f} | 20 |"
        assert row in card.text
    assert list(after.by_dim) == [16, 8]
    assert "| pairs.csv | pairs | `q: ` | cc0-1.0 |" in card.text
    assert "spread-out 0.1; Matryoshka at 16, 8. 6 steps of 16 examples" in card.text
    assert f"torch {torch.__version__}" in card.text
    cost = json.loads((root / "out" / "training.json").read_text())["cost"]
    log = [json.loads(line) for line in (root / "work-out" / "train.jsonl").read_text().splitlines()]
    spent = sum(16 / row["texts_per_s"] for row in log)  # each call was one step
    assert spent / 5 < cost["seconds"] < spent * 5  # the same clock, read elsewhere: a busy machine sets them apart


def test_slices_end_in_the_bits_of_a_straight_run(root: Path):
    torch.set_num_threads(1)
    shorter = lambda text: text.replace("epochs = 4", "steps = 6")  # noqa: E731
    assert run(root, "straight", shorter).done
    while not run(root, "sliced", shorter, minutes=0).done:
        pass
    same_bits(root, "straight", "sliced")


def test_a_killed_run_goes_on_to_the_same_bits(root: Path):
    torch.set_num_threads(1)
    (root / "recipe.toml").write_text(
        RECIPE.replace("epochs = 4", "steps = 20").replace("save_every = 4", "save_every = 1")
    )
    assert train(root / "recipe.toml", root / "straight", work=root / "work-straight").done
    command = [sys.executable, "-m", "service.cli", "train", "recipe.toml", "killed", "--work", "work-killed"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL)
    log = root / "work-killed" / "train.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and len(log.read_text().splitlines()) >= 5) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (root / "killed").exists()
    assert train(root / "recipe.toml", root / "killed", work=root / "work-killed").done
    same_bits(root, "straight", "killed")


def same_bits(root: Path, *names: str) -> None:
    left, right = (load_file(root / name / "model.safetensors") for name in names)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_negatives_scores_prompts_and_several_sets(root: Path):
    with gzip.open(root / "triples.jsonl.gz", "wt") as file:
        for number in range(30):
            word, other = WORDS[number % 16], WORDS[(number + 5) % 16]
            file.write(json.dumps({"q": f"{word} {number}", "a": f"the {word} {number}", "n": f"no {other}"}) + "\n")
    lines = [f"{WORDS[n % 16]} {n}\t{WORDS[(n + n % 3) % 16]}\t{5 - n % 3}" for n in range(40)]
    (root / "scored.tsv").write_text("\n".join(["left\tright\tscore", *lines]) + "\n")
    more = """
[[data]]
file = "triples.jsonl.gz"
query = "q"
document = "a"
negatives = ["n"]
[[data]]
file = "scored.tsv"
query = "left"
document = "right"
score = "score"
held_out = 10
"""
    trained = run(
        root,
        change=lambda text: (
            text.replace("held_out = 20", 'held_out = 20\nquery_prompt = "query: "')
            + more
            + "[objective]\nhardness = 5.0\nspread_out = 1.0\nfour_way = true\ndims = [8]\n"
        ),
    )
    assert {name: quality.measure for name, quality in trained.after.items()} == {
        "pairs.csv": "nDCG@10",
        "scored.tsv": "Spearman",
    }
    rows = [json.loads(line) for line in (root / "work-out" / "train.jsonl").read_text().splitlines()]
    assert any("cosent" in row for row in rows)
    assert any("spread_out" in row for row in rows)
    assert SentenceTransformer(str(root / "out"), device="cpu").prompts["query"] == "query: "


def test_matching_the_base_keeps_what_it_knows_and_vectors_are_computed_once(root: Path):
    change = lambda text: text.replace("epochs = 4", "steps = 12")  # noqa: E731
    texts = [f"the {word} is here" for word in WORDS]

    def moved(name: str) -> float:
        found, base = (SentenceTransformer(str(root / folder), device="cpu").encode(texts) for folder in (name, "base"))
        return float((found * base).sum(1).mean())

    assert run(root, "free", change).done
    said: list[str] = []
    matched = lambda text: change(text) + "[objective]\nmatch = 50.0\ngeometry = 50.0\n"  # noqa: E731
    assert run(root, "kept", matched, log=said.append).done
    assert moved("kept") > moved("free") + 0.1
    assert sum("teacher vectors" in line for line in said) == 2  # of queries, of documents
    again: list[str] = []
    assert run(root, "kept", matched, log=again.append, overwrite=True).done
    assert not any("teacher vectors" in line for line in again)


def test_a_teacher_of_another_width_is_matched_through_a_projection(root: Path):
    def change(text: str) -> str:
        return text.replace("epochs = 4", "steps = 6") + '[objective]\nmatch = 1.0\nteacher = "default"\n'

    assert run(root, "out", change).done
    rows = [json.loads(line) for line in (root / "work-out" / "train.jsonl").read_text().splitlines()]
    assert rows[-1]["match"] < rows[0]["match"]
    assert SentenceTransformer(str(root / "out"), device="cpu").encode("a").shape == (32,)
    torch.set_num_threads(1)
    while not run(root, "sliced", change, minutes=0).done:
        pass
    same_bits(root, "out", "sliced")
    with pytest.raises(FingerprintError):
        train_with_another_teacher(root, change)


def train_with_another_teacher(root: Path, change: Callable[[str], str]) -> None:
    run(root, "out", lambda text: change(text).replace('teacher = "default"', 'teacher = "base"'), overwrite=True)


def test_the_best_weights_are_kept_and_a_run_that_gets_worse_ends_early(root: Path):
    def change(text: str) -> str:
        return text.replace("epochs = 4", "steps = 40\nmeasure_every = 2\npatience = 3").replace("3e-3", "1e-2")

    trained = run(root, "straight", change)
    rows = [json.loads(line) for line in (root / "work-straight" / "train.jsonl").read_text().splitlines()]
    measured = {row["step"]: row["held_out"] for row in rows if "held_out" in row}
    best = max(measured.values())
    best_step = min(step for step, value in measured.items() if value == best)
    assert max(measured) == best_step + 6 < 40  # three measurements later, and long before the end
    assert trained.after["pairs.csv"].value == pytest.approx(best, abs=1e-4)
    torch.set_num_threads(1)
    while not run(root, "sliced", change, minutes=0).done:
        pass
    same_bits(root, "straight", "sliced")
    assert run(root, "again", change).done
    again = train(root / "recipe.toml", root / "more", work=root / "work-straight")  # ended, and stays ended
    assert again.after == trained.after


def test_measuring_on_the_way_needs_held_out_examples(root: Path):
    with pytest.raises(InputError, match="held_out"):
        run(root, change=lambda text: text.replace("held_out = 20", "").replace("batch", "measure_every = 2\nbatch"))


def test_a_dry_run_writes_nothing(root: Path):
    said: list[str] = []
    assert not run(root, log=said.append, dry_run=True).done
    assert "28 steps of 16 examples" in said[-2]
    assert re.search(r"about \d+\.\d min, \d\d+ tokens per step, \d+ MB", said[-1])
    assert not (root / "out").exists()
    assert not (root / "work-out").exists()


def test_a_newcomer_has_a_model_after_three_commands(tmp_path: Path):
    """From a CSV with names of its own, and the model that ships."""
    rows = [f'"Wo liegt {a} {b}?","{b} liegt bei {a}."' for a in WORDS for b in WORDS if a < b]
    (tmp_path / "my pairs.csv").write_text("\n".join(['"Die Frage","Die ""Antwort"""', *rows]) + "\n")
    recipe, out = str(tmp_path / "recipe.toml"), str(tmp_path / "out")
    done = CliRunner().invoke(cli, ["train", recipe, "--init", str(tmp_path / "my pairs.csv")], catch_exceptions=False)
    assert done.exit_code == 0
    text = Path(recipe).read_text().replace("batch = 128", "batch = 16").replace("epochs = 1.0", "steps = 2")
    Path(recipe).write_text(text)
    settings = read_recipe(Path(recipe)).data[0]
    assert (settings.query, settings.document) == ("Die Frage", 'Die "Antwort"')
    arguments = ["train", recipe, out, "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "after: my pairs.csv nDCG@10" in done.output
    done = CliRunner().invoke(cli, ["export", out], catch_exceptions=False)
    assert done.exit_code == 0
    assert OnnxEncoder(out).encode(["Wo liegt olive?"]).shape == (1, 384)
    again = CliRunner().invoke(cli, ["train", recipe, "--init", str(tmp_path / "my pairs.csv")])
    assert isinstance(again.exception, InputError)


def test_what_shares_a_text_with_a_held_out_example_is_not_trained_on(tmp_path: Path):
    rows = [f"q{n},d{n // 4}" for n in range(80)]  # four queries a document
    (tmp_path / "pairs.csv").write_text("\n".join(["query,document", *rows, rows[0], " Q1 ,D0", ",d5", "q9,"]) + "\n")
    found = read_examples(DataSet("pairs.csv", held_out=5), tmp_path, seed=3)
    held = {row.document for row in found.held_out}
    assert len(found.held_out) == 5
    assert not held & {row.document for row in found.train}
    assert found.facts["read"] == 84
    assert found.facts["empty"] == 2
    assert found.facts["repeated"] == 2
    assert found.facts["trained on"] == len(found.train) == 80 - 4 * len(held)
    assert found == read_examples(DataSet("pairs.csv", held_out=5), tmp_path, seed=3)
    assert found.held_out != read_examples(DataSet("pairs.csv", held_out=5), tmp_path, seed=4).held_out


def test_quotation_marks_are_those_of_the_kind_of_file(tmp_path: Path):
    (tmp_path / "a.tsv").write_text('query\tdocument\n"open\tshut" or "not"\nx "y" z\tw\n', encoding="utf-8")
    (tmp_path / "b.csv").write_text(
        'query,document\r\n"two\nlines","say ""hello"", please"\r\nx,y\r\n', encoding="utf-8"
    )
    found = {row.query: row.document for row in read_examples(DataSet("a.tsv"), tmp_path, 1).train}
    assert found == {'"open': 'shut" or "not"', 'x "y" z': "w"}
    found = {row.query: row.document for row in read_examples(DataSet("b.csv"), tmp_path, 1).train}
    assert found == {"two\nlines": 'say "hello", please', "x": "y"}


def test_every_batch_is_of_one_set_and_weights_count():
    sizes, weights = [40, 9, 100], [1.0, 3.0, 0.5]
    steps = batches_of_an_epoch(sizes, weights, 10)
    assert steps == 4 + 3 + 5
    whole = list(batches_of_sets(sizes, weights, 10, 3 * steps, 7, 0))
    assert [step for step, _ in whole] == list(range(3 * steps))
    borders = np.cumsum([0, *sizes])
    places = [set(np.searchsorted(borders, rows, side="right").tolist()) for _, rows in whole]
    assert all(len(place) == 1 for place in places)
    assert [sum(place == {k} for place in places) for k in (1, 2, 3)] == [12, 9, 15]
    assert {len(rows) for _, rows in whole} == {10, 9}
    assert all(len(set(rows.tolist())) == len(rows) for _, rows in whole)
    for done in (1, steps, 3 * steps - 1):
        late = list(batches_of_sets(sizes, weights, 10, 3 * steps, 7, done))
        assert all(np.array_equal(a[1], b[1]) for a, b in zip(whole[done:], late, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda text: text.replace("rate = 3e-3\n", "lr = 3e-3\n", 1), FileCorruptError, r"no setting 'lr'"),
        (lambda text: text.replace("epochs", "epoch"), FileCorruptError, r"Did you mean 'epochs'"),
        (lambda text: text.replace("batch = 16", "batch = 1"), InputError, "batch"),
        (lambda text: text.replace("batch = 16", "batch = 'x'"), FileCorruptError, "batch"),
        (lambda text: text.replace("held_out = 20", 'query = "querry"'), InputError, "Did you mean 'query'"),
        (lambda text: text.replace("pairs.csv", "nowhere.csv"), FileMissingError, "nowhere"),
        (lambda text: text.replace("pairs.csv", "recipe.toml"), InputError, "no known kind"),
        (lambda text: text.replace("held_out = 20", 'document = "query"'), InputError, "equal in every row"),
        (lambda text: text.replace("held_out = 20", "held_out = 139"), InputError, "two or more"),
        (lambda text: text.replace('base = "base"', 'base = "nowhere"'), FileMissingError, "nowhere"),
        (lambda text: "base = ", FileCorruptError, "TOML"),
        (lambda text: 'base = "base"\ndata = []', InputError, "names no data"),
        (lambda text: 'base = "base"', FileCorruptError, "data"),
    ],
)
def test_a_recipe_that_cannot_run_is_one_clear_error(
    root: Path, change: Callable[[str], str], error: type[Exception], says: str
):
    with pytest.raises(error, match=says):
        run(root, change=change)
    assert not (root / "out").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"query,document\n\xff\xfe,x\n", "UTF-8"),
        (b'query,document\n"a,b\n', "CSV"),
        (b"", "0 examples"),
        (b"query,document\na,b\n", "0 examples"),
    ],
)
def test_a_damaged_file_is_one_clear_error(root: Path, content: bytes, says: str):
    (root / "pairs.csv").write_bytes(content)
    with pytest.raises((FileCorruptError, InputError), match=says):
        run(root)


def test_another_recipe_or_other_data_do_not_continue_a_run(root: Path):
    assert not run(root, minutes=0).done
    with pytest.raises(FingerprintError, match="other settings"):
        run(root, change=lambda text: text.replace("batch = 16", "batch = 17"))
    (root / "pairs.csv").write_text((root / "pairs.csv").read_text().replace("amber", "copper"))
    with pytest.raises(FingerprintError, match="texts"):
        run(root)


def test_a_base_that_cannot_be_loaded_is_named(root: Path):
    (root / "base").unlink()
    (root / "base").mkdir()
    (root / "base" / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},'
        '{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'
    )
    (root / "base" / "1_Pooling").mkdir()
    (root / "base" / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 8}')
    (root / "base" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot load"):
        run(root)
