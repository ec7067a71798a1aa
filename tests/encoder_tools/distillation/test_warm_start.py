"""A student that starts from an earlier one: its pieces and its vectors to begin with, better ones after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from encoder_tools.distillation.run import distill
from encoder_tools.errors import CheckpointError, FileCorruptError, FileMissingError, FingerprintError
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.battery import real_sentences
from tests.encoder_tools.distillation.test_token_distillation import RECIPE, root, run, teacher, write

__all__ = ["root", "teacher"]  # fixtures

STILL = "[training]\nrate = 1e-9\ntable_rate = 1e-9"
LATER = RECIPE.replace("[student]", 'held_out = 20\n[student]\nearlier = "a"').replace("least_count = 2", "")


@pytest.fixture
def first(root: Path) -> Path:
    """The folder of a run with a student in ``a``, and a recipe that starts from it."""
    write(root, steps=40, save_every=20)
    run(root)
    with (root / "texts.txt").open("a", encoding="utf-8") as file:
        file.write("Zebras and xylophones, quixotically juxtaposed.\n" * 30)
    write(root, steps=4, recipe=LATER)
    return root


def cosines(root: Path, name: str, other: str) -> np.ndarray[Any, Any]:
    texts = real_sentences()[:20]
    left, right = (SentenceTransformer(str(root / folder), device="cpu").encode(texts) for folder in (name, other))
    return (left * right).sum(1)


def test_it_begins_with_the_earlier_ones_pieces_and_vectors(first: Path):
    write(first, steps=2, recipe=LATER.replace("[training]", STILL))
    run(first, "b")
    assert cosines(first, "a", "b").min() > 1 - 1e-5
    assert (first / "a" / "tokenizer.json").read_bytes() == (first / "b" / "tokenizer.json").read_bytes()


def test_it_learns_more_and_slices_end_in_the_bits_of_a_straight_run(first: Path):
    write(first, steps=60, save_every=60, recipe=LATER.replace("[training]", "[training]\nrate = 5e-3"))
    assert run(first, "b")[0]
    assert cosines(first, "b", "teacher").mean() > cosines(first, "a", "teacher").mean() + 0.001
    write(first, steps=6, save_every=1, recipe=LATER)
    run(first, "c")
    for _ in range(5):
        assert not run(first, "d", minutes=0)[0]
    assert run(first, "d", minutes=0)[0]
    weights = [load_file(first / name / "model.safetensors") for name in ("c", "d")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_one_that_ships_as_onnx_alone_is_unpacked(first: Path):
    export(first / "a", store_weights="int8")
    (first / "a" / "model.safetensors").rename(first / "plain.safetensors")
    (first / "a" / "2_Dense" / "model.safetensors").unlink()
    write(first, steps=2, recipe=LATER.replace("[training]", STILL))
    assert run(first, "b")[0]
    before, after = load_file(first / "plain.safetensors"), load_file(first / "b" / "model.safetensors")
    assert all(float((before[name] - after[name]).abs().max()) < 1e-6 for name in before)


def test_the_state_of_a_run_from_another_student_is_refused(first: Path):
    assert not run(first, "b", minutes=0)[0]
    file = first / "a" / "model.safetensors"
    save_file({name: value * 1.01 for name, value in load_file(file).items()}, file)
    with pytest.raises(FingerprintError, match="earlier"):
        run(first, "b")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda text: text.replace("layers = 2", "layers = 3"), CheckpointError, r"layers\.2\.self_attn"),
        (lambda text: text.replace("mlp = 24", "mlp = 32"), CheckpointError, "size mismatch"),
        (lambda text: text.replace("heads = 2\n", "heads = 4\n", 1), CheckpointError, "num_attention_heads is 2"),
        (lambda text: text.replace("layers = 2", 'layers = 2\nstart = "static"'), CheckpointError, "rms_norm_eps"),
        (
            lambda text: text.replace("layers = 2", 'layers = 2\nfamily = "t5"'),
            CheckpointError,
            "cannot be started from",
        ),
        (lambda text: text.replace('earlier = "a"', 'earlier = "nowhere"'), FileMissingError, "nowhere"),
        (lambda text: text.replace('earlier = "a"', 'earlier = "teacher"'), CheckpointError, "its modules are"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(first: Path, change: Any, error: type[Exception], says: str):
    recipe = first / "recipe.toml"
    recipe.write_text(change(recipe.read_text()))
    with pytest.raises(error, match=says):
        run(first, "b")


def test_pieces_that_the_teacher_does_not_know_are_named(first: Path):
    tokenizer = first / "a" / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["qqqzz"] = vocabulary.pop("the")
    tokenizer.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="'qqqzz'"):
        run(first, "b")
    tokenizer.write_text("{}")
    with pytest.raises(FileCorruptError, match="no tokenizer"):
        run(first, "b")


def test_the_default_model_can_be_gone_on_from(first: Path):
    recipe = LATER.replace('earlier = "a"', 'earlier = "default"')
    (first / "recipe.toml").write_text(recipe.format(steps=2, save_every=1))
    with pytest.raises(
        CheckpointError, match="num_attention_heads is 6, expected 2"
    ):  # of another width than this teacher: found, and read
        distill(first / "recipe.toml", first / "b", work=first / "work-b")
