"""BART and its kin: positions that no file stores, scaled word vectors, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny import full_model, make_checkpoint

from encoder_tools.errors import CheckpointFamilyError
from encoder_tools.extraction import extract

TEXTS = ["one", "", "A text to be read, with 3 parts.", "long words " * 12]


def states(checkpoint: Path, model: SentenceTransformer) -> tuple[torch.Tensor, torch.Tensor]:
    features = model.preprocess(TEXTS)
    kept = features["attention_mask"].bool()
    ids = {name: features[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        full = full_model(checkpoint)
        expected = full.get_encoder()(**ids).last_hidden_state
        return expected[kept], model[0].model(**ids).last_hidden_state[kept]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", ["bart", "mbart"])
def test_scaled_word_vectors_are_exact_where_the_scale_is_a_power_of_two(family: str, dtype: str, tmp_path: Path):
    sizes = {"d_model": 64, "scale_embedding": True}
    checkpoint = make_checkpoint(family, tmp_path / "checkpoint", dtype=dtype, config=sizes)
    report = extract(checkpoint, tmp_path / "out")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu", model_kwargs={"dtype": "auto"})
    assert torch.equal(*states(checkpoint, model))
    assert any("multiplied by 8" in note for note in report.notes)
    assert not list((tmp_path / "out").glob("*computed*")) + list((tmp_path / "out").glob("*scaled*"))
    other = make_checkpoint(family, tmp_path / "other", config={"scale_embedding": True})
    with pytest.raises(CheckpointFamilyError, match=r"multiplies its word vectors by 5\.65685"):
        extract(other, tmp_path / "refused")


def test_positions_that_marian_computes_are_written_once(tmp_path: Path):
    checkpoint = make_checkpoint("marian", tmp_path / "checkpoint")
    stored = load_file(checkpoint / "model.safetensors")
    assert "model.encoder.embed_positions.weight" not in stored
    extract(checkpoint, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")["embed_positions.weight"]
    expected = full_model(checkpoint).get_encoder().embed_positions.weight  # type: ignore[operator]
    assert torch.equal(written, expected)
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert torch.equal(*states(checkpoint, model))


@pytest.mark.parametrize("family", ["bart", "mbart", "marian", "m2m100", "pegasus"])
def test_what_is_written_is_not_what_sentence_transformers_makes_of_the_full_checkpoint(family: str, tmp_path: Path):
    """It runs random weights, or the decoder: the reason why there are families for these."""
    checkpoint = make_checkpoint(family, tmp_path / "checkpoint")
    extract(checkpoint, tmp_path / "out", normalize=False)
    ours = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    expected, actual = states(checkpoint, ours)
    assert torch.equal(expected, actual)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("decoder" in name or name.startswith("lm_head") for name in weights)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (transformers.BlenderbotConfig, "blenderbot"),
        (transformers.ProphetNetConfig, "prophetnet"),
        (transformers.LEDConfig, "led"),
        (transformers.BigBirdPegasusConfig, "bigbird_pegasus"),
        (transformers.NllbMoeConfig, "nllb-moe"),
        (transformers.FSMTConfig, "fsmt"),
    ],
)
def test_what_stays_out_is_refused_by_name(config: Any, name: str, tmp_path: Path):
    make_checkpoint("bart", tmp_path / "checkpoint")
    config().save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(CheckpointFamilyError, match=f"'{name}' is an encoder-decoder of a family that is not"):
        extract(tmp_path / "checkpoint", tmp_path / "out")


def test_a_bart_whose_padding_is_another_is_refused(tmp_path: Path):
    checkpoint = make_checkpoint("bart", tmp_path / "checkpoint", config={"pad_token_id": 0})
    with pytest.raises(CheckpointFamilyError, match="pad_token_id = 0; RobertaModel counts positions"):
        extract(checkpoint, tmp_path / "out")
