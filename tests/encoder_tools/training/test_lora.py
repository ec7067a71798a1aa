"""Low-rank adapters: trained instead of the weights, and merged into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from encoder_tools import OnnxEncoder
from encoder_tools.errors import FileCorruptError, FingerprintError, InputError
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.unpack import unpack
from encoder_tools.training.lora import Adapters
from encoder_tools.training.run import train
from tests.encoder_tools.training.test_train import RECIPE, WORDS, base, root

__all__ = ["base", "root"]  # fixtures

LORA = RECIPE.replace("epochs = 4", "steps = 6").replace("save_every = 4", "save_every = 1") + "[lora]\nrank = 4\n"


def run(root: Path, name: str = "out", recipe: str = LORA, **options: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    (root / "recipe.toml").write_text(recipe)
    return train(root / "recipe.toml", root / name, work=root / f"work-{name}", log=said.append, **options), said


def test_adapters_learn_and_are_merged_into_a_model_of_the_bases_shape(root: Path):
    code = dict(zip(WORDS, WORDS[5:] + WORDS[:5], strict=True))
    pairs = [f"{a} and {b},{code[b]} or {code[a]}" for a in WORDS for b in WORDS if a != b]
    (root / "pairs.csv").write_text("\n".join(["query,document", *pairs]) + "\n")
    unpack("default", root / "real")
    recipe = LORA.replace('"base"', '"real"').replace("steps = 6", "epochs = 6").replace("rank = 4", "rank = 8")
    trained, said = run(root, recipe=recipe)
    before, after = trained.before["pairs.csv"], trained.after["pairs.csv"]
    assert after.value > before.value + 0.1
    assert trained.plan.trained < 0.05 * trained.plan.parameters
    assert f"{trained.plan.trained / 1e6:.2f} million parameters of {trained.plan.parameters / 1e6:.2f}" in said[1]
    old, new = (load_file(root / name / "model.safetensors") for name in ("real", "out"))
    assert {name: value.shape for name, value in old.items()} == {name: value.shape for name, value in new.items()}
    changed = {name.split(".")[-2] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert not list((root / "out").rglob("adapter*"))
    assert "LoRA of rank 8, merged" in (root / "out" / "README.md").read_text()
    export(root / "out")
    texts = ["where is amber", "the olive"]
    model = SentenceTransformer(str(root / "out"), device="cpu")
    np.testing.assert_allclose(OnnxEncoder(root / "out").encode(texts), model.encode(texts), atol=1e-5)


def test_what_was_merged_is_what_was_measured(root: Path, monkeypatch: pytest.MonkeyPatch):
    """The figure after training is taken with the adapters beside the weights; the folder has them inside.

    Vectors are compared, not figures: ranks of a tiny random model are those of near-equal scores.
    """
    texts = [f"{a} and {b}" for a in WORDS for b in WORDS]
    models: list[Any] = []
    beside: list[Any] = []
    attach, merge = Adapters.__init__, Adapters.merge

    def attaching(self: Adapters, model: Any, recipe: Any) -> None:
        models.append(model)
        attach(self, model, recipe)

    def merging(self: Adapters) -> None:
        beside.append(models[0].eval().encode(texts))
        merge(self)

    monkeypatch.setattr(Adapters, "__init__", attaching)
    monkeypatch.setattr(Adapters, "merge", merging)
    untrained = SentenceTransformer(str(root / "base"), device="cpu").encode(texts)
    run(root)
    merged = SentenceTransformer(str(root / "out"), device="cpu").encode(texts)
    np.testing.assert_allclose(merged, beside[0], atol=1e-5)
    assert np.abs(merged - untrained).max() > 1e-3


def test_slices_end_in_the_bits_of_a_straight_run_and_states_hold_adapters_alone(root: Path):
    torch.set_num_threads(1)
    assert run(root, "straight")[0].done
    while not run(root, "sliced", minutes=0)[0].done:
        pass
    left, right = (load_file(root / name / "model.safetensors") for name in ("straight", "sliced"))
    assert all(torch.equal(left[name], right[name]) for name in left)
    state = load_file(root / "work-sliced" / "state.safetensors")
    weights = [name for name in state if name.startswith("weight.")]
    assert len(weights) > 10
    assert all("lora_" in name for name in weights)
    assert sum(value.numel() for value in state.values()) < sum(value.numel() for value in left.values())  # not thrice
    run(root, "sliced2", LORA, minutes=0)
    with pytest.raises(FingerprintError):
        run(root, "sliced2", LORA.replace("rank = 4", "rank = 3"))


def test_only_the_named_layers_get_one(root: Path):
    run(root, recipe=LORA + 'targets = ["q_proj", "v_proj"]\nalpha = 2.0\n')
    old, new = (load_file(root / name / "model.safetensors") for name in ("base", "out"))
    assert {name.split(".")[-2] for name in old if not torch.equal(old[name], new[name])} == {"q_proj", "v_proj"}
    assert json.loads((root / "out" / "training.json").read_text())["recipe"]["lora"]["alpha"] == 2.0


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        ('rank = 4\ntargets = ["query"]', InputError, "of which the base has none"),
        ('targets = ["q_proj"]', InputError, "say nothing without a rank"),
        ("rank = -1", InputError, "rank out of range"),
        ("rnk = 4", FileCorruptError, "Did you mean 'rank'"),
    ],
)
def test_what_cannot_be_is_one_clear_error(root: Path, table: str, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        run(root, recipe=LORA.replace("rank = 4", table))
