from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sentence_transformers import SentenceTransformer
from tiny import full_model, make_checkpoint

from encoder_tools.errors import InputError
from encoder_tools.extraction import extract, extractor
from encoder_tools.families.t5gemma2 import exact_length

FAMILIES = [
    *("t5gemma2", "t5gemma", "t5", "t5v1_1", "mt5", "umt5", "byt5", "longt5", "longt5_tglobal"),
    *("bart", "mbart", "marian", "m2m100", "pegasus"),
]
TEXTS = ["one", "", "A text to be read, with 3 parts.", "ربما 🤖", "long words " * 12]


def hidden_states(checkpoint: Path, model: SentenceTransformer, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the full model's own encoder and of the extracted one, on the same ids."""
    features = model.preprocess(TEXTS)
    ids, mask = features["input_ids"][:, :length], features["attention_mask"][:, :length]
    kept = mask.bool()
    with torch.no_grad():
        wanted = full_model(checkpoint).get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        found = model[0].model(input_ids=ids, attention_mask=mask).last_hidden_state
    return wanted[kept], found[kept]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_equal_the_full_models_to_the_bit(family: str, dtype: str, tmp_path: Path):
    checkpoint = make_checkpoint(family, tmp_path / "checkpoint", seed=3, dtype=dtype)
    report = extract(checkpoint, tmp_path / "out")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu", model_kwargs={"dtype": "auto"})
    wanted, found = hidden_states(checkpoint, model, report.exact_length or 120)
    assert wanted.dtype == found.dtype == getattr(torch, dtype)
    assert torch.equal(wanted, found)
    assert report.max_difference == 0


@pytest.mark.parametrize("vision", [False, True])
def test_the_native_t5gemma2_layout_is_exact_beyond_the_window(vision: bool, tmp_path: Path):
    checkpoint = make_checkpoint("t5gemma2", tmp_path / "checkpoint")
    report = extract(checkpoint, tmp_path / "out", layout="t5gemma2", keep_vision=vision)
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    wanted, found = hidden_states(checkpoint, model, 500)
    assert wanted.shape[0] > 64
    assert torch.equal(wanted, found)
    assert report.exact_length is None
    assert any("vision" in reason for reason in report.dropped.values()) is not vision


@pytest.mark.parametrize(("window", "exact"), [(16, 8), (17, None), (2, 1)])
def test_the_window_differs_exactly_from_the_length_that_is_named(window: int, exact: int | None, tmp_path: Path):
    checkpoint = make_checkpoint("t5gemma2", tmp_path / "checkpoint", config={"sliding_window": window})
    report = extract(checkpoint, tmp_path / "out", max_length=256)
    assert report.exact_length == exact
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    model.max_seq_length = 256
    if exact is None:
        wanted, found = hidden_states(checkpoint, model, 200)
        assert torch.equal(wanted, found)
        return
    assert model[0].max_seq_length == 256
    wanted, found = hidden_states(checkpoint, model, exact)
    assert torch.equal(wanted, found)
    wanted, found = hidden_states(checkpoint, model, exact + 1)
    assert not torch.equal(wanted, found)


def test_exact_length_needs_a_sliding_layer():
    assert exact_length(16, ["full_attention"]) is None
    assert exact_length(None, ["sliding_attention"]) is None
    assert exact_length(512, ["sliding_attention", "full_attention"]) == 256


def test_the_maximum_length_is_exact_unless_longer_texts_were_measured_to_be_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint = make_checkpoint("t5gemma2", tmp_path / "checkpoint")
    for bar, limit, says in ((1.1, 8, "the maximum length is the exact one"), (-1.0, 256, "--max-length 8 to stay")):
        monkeypatch.setattr(extractor, "_CLOSE", bar)
        report = extract(checkpoint, tmp_path / "a", overwrite=True)
        assert report.max_length == limit
        assert set(report.closeness) == {"16", "32"}
        assert SentenceTransformer(str(tmp_path / "a"), device="cpu").max_seq_length == limit
        assert any(says in note for note in report.notes)
    longer = extract(checkpoint, tmp_path / "b", max_length=100)
    assert SentenceTransformer(str(tmp_path / "b"), device="cpu").max_seq_length == longer.max_length == 100
    assert any("beyond 8 tokens" in note for note in longer.notes)


def test_closeness_is_that_of_vectors_to_the_source(tmp_path: Path):
    checkpoint = make_checkpoint("t5gemma2", tmp_path / "checkpoint")
    report = extract(checkpoint, tmp_path / "out")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    model.max_seq_length = 256
    for tokens, cosine in report.closeness.items():
        wanted, found = hidden_states(checkpoint, model, int(tokens))
        assert not torch.equal(wanted, found)
        means = wanted.mean(dim=-2).flatten(), found.mean(dim=-2).flatten()
        assert abs(torch.cosine_similarity(*means, dim=0).item() - cosine) < 0.05  # of other texts


@pytest.mark.parametrize("family", ["t5", "t5gemma", "t5gemma2"])
def test_every_tensor_is_accounted_for(family: str, tmp_path: Path):
    checkpoint = make_checkpoint(family, tmp_path / "checkpoint")
    report = extract(checkpoint, tmp_path / "out")
    with (
        safe_open(checkpoint / "model.safetensors", "pt") as source,
        safe_open(tmp_path / "out" / "model.safetensors", "pt") as copy,
    ):
        assert {*report.copied, *report.renamed, *report.dropped} == set(source.keys())
        assert {*report.copied, *report.renamed.values()} == set(copy.keys())
        for old, new in [*((name, name) for name in report.copied), *report.renamed.items()]:
            assert torch.equal(source.get_tensor(old), copy.get_tensor(new))
    assert json.loads((tmp_path / "out" / "extraction.json").read_text())["dropped"] == dict(report.dropped)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "weighted-mean", "max"])
def test_pooling_dense_and_normalize_are_what_they_say(pooling: str, tmp_path: Path):
    checkpoint = make_checkpoint("t5", tmp_path / "checkpoint")
    extract(checkpoint, tmp_path / "out", pooling=pooling, dense=(20, 12))
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    features = model.preprocess(TEXTS)
    mask = features["attention_mask"]
    with torch.no_grad():
        states = full_model(checkpoint).get_encoder()(features["input_ids"], mask).last_hidden_state
    pooled = torch.stack([_pool(states[row][mask[row].bool()], pooling) for row in range(len(TEXTS))])
    for number in (2, 3):
        with safe_open(tmp_path / "out" / f"{number}_Dense" / "model.safetensors", "pt") as dense:
            pooled = pooled @ dense.get_tensor("linear.weight").T
    expected = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    assert expected.shape == (len(TEXTS), 12)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=2e-6)


def _pool(tokens: torch.Tensor, pooling: str) -> torch.Tensor:
    weights = torch.arange(1, len(tokens) + 1, dtype=tokens.dtype)[:, None]
    return {
        "mean": tokens.mean(0),
        "cls": tokens[0],
        "last": tokens[-1],
        "max": tokens.max(0).values,
        "weighted-mean": (tokens * weights).sum(0) / weights.sum(),
    }[pooling]


def test_without_normalize_lengths_are_kept(tmp_path: Path):
    extract(make_checkpoint("t5", tmp_path / "checkpoint"), tmp_path / "out", normalize=False)
    vectors = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=0.1)


def test_shards_are_read(tmp_path: Path):
    checkpoint = make_checkpoint("t5", tmp_path / "checkpoint", shard="60KB")
    assert (checkpoint / "model.safetensors.index.json").is_file()
    assert extract(checkpoint, tmp_path / "out").max_difference == 0


def test_the_gemma3_configuration_is_stable_and_complete(tmp_path: Path):
    from transformers import AutoConfig, AutoModel

    extract(make_checkpoint("t5gemma2", tmp_path / "checkpoint"), tmp_path / "out")
    first = AutoConfig.from_pretrained(tmp_path / "out")
    first.save_pretrained(tmp_path / "again")
    second = AutoConfig.from_pretrained(tmp_path / "again")
    assert first.sliding_window == second.sliding_window == 9  # exclusive: 8 keys on each side
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    assert raw["architectures"] == ["Gemma3TextModel"]
    assert (raw["rope_theta"], raw["rope_local_base_freq"]) == (1_000_000.0, 10_000.0)
    _, info = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())


def test_a_fast_byte_tokenizer_equals_byt5s(tmp_path: Path):
    from tokenizers import Tokenizer
    from transformers import ByT5Tokenizer

    extract(make_checkpoint("byt5", tmp_path / "checkpoint"), tmp_path / "out")
    fast, slow = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")), ByT5Tokenizer()
    for text in [*TEXTS, "\x00\x7f\x80ÿ", "  two  spaces ", "a</s>b", "<extra_id_0> x", "\n\t", "\U0010ffff"]:
        assert fast.encode(text).ids == slow(text)["input_ids"], text


def test_an_encoder_only_checkpoint_is_taken(tmp_path: Path):
    from transformers import AutoTokenizer, T5EncoderModel

    checkpoint = make_checkpoint("t5", tmp_path / "checkpoint")
    T5EncoderModel.from_pretrained(checkpoint).save_pretrained(tmp_path / "encoder")
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(tmp_path / "encoder")
    report = extract(tmp_path / "encoder", tmp_path / "out")
    assert not report.dropped
    assert report.max_difference == 0


def test_an_existing_folder_is_kept_unless_told(tmp_path: Path):
    checkpoint = make_checkpoint("t5", tmp_path / "checkpoint")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="--overwrite"):
        extract(checkpoint, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
    extract(checkpoint, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "mine.txt").exists()
