"""Checkpoints as they lie about in the world: other classes, old names, untied heads, odd dtypes, any alignment."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tiny import full_model, make_checkpoint

from encoder_tools.errors import CheckpointError, CheckpointFamilyError, CheckpointTensorError, InputError, ProofError
from encoder_tools.extraction import ExtractionReport, extract
from encoder_tools.extraction.proof_texts import sample_texts

Tensors = dict[str, torch.Tensor]
HEAD, TABLE = "lm_head.weight", "shared.weight"
GEMMA_TABLE = "model.encoder.embed_tokens.weight"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def checkpoint(family: str) -> Path:
        if family not in made:
            made[family] = make_checkpoint(family, tmp_path_factory.mktemp(family) / "checkpoint")
        return made[family]

    return checkpoint


def changed(
    source: Path, copy: Path, change: Callable[[Tensors], Tensors] | None = None, spaces: int = 0, **config: Any
) -> Path:
    """A copy of a checkpoint with other tensors or another configuration."""
    shutil.copytree(source, copy)
    tensors = load_file(copy / "model.safetensors")
    tensors = {name: tensor.contiguous() for name, tensor in (change or dict)(tensors).items()}
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt", "spaces": " " * spaces})
    raw = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**raw, **config}))
    return copy


def largest_difference(source: torch.nn.Module, folder: Path, ids: list[int]) -> float:
    encoder = SentenceTransformer(str(folder), device="cpu")[0].model
    batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    with torch.no_grad():
        return (source(**batch).last_hidden_state - encoder(**batch).last_hidden_state).abs().max().item()


@pytest.mark.parametrize("spaces", [0, 8, 16, 24])
def test_one_token_is_equal_to_the_bit_wherever_the_tensors_begin(checkpoints: Any, spaces: int, tmp_path: Path):
    checkpoint = changed(checkpoints("t5"), tmp_path / "in", spaces=spaces)
    extract(checkpoint, tmp_path / "out")
    assert largest_difference(full_model(checkpoint).get_encoder(), tmp_path / "out", [5]) == 0


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("t5", "T5Model"),
        ("t5", "T5ForSequenceClassification"),
        ("t5", "T5ForTokenClassification"),
        ("mt5", "MT5EncoderModel"),
        ("umt5", "UMT5EncoderModel"),
        ("longt5_tglobal", "LongT5EncoderModel"),
        ("t5gemma", "T5GemmaEncoderModel"),
        ("t5gemma", "T5GemmaModel"),
        ("t5gemma2", "T5Gemma2Model"),
        ("t5gemma2", "T5Gemma2Encoder"),
    ],
)
def test_other_classes_of_the_families(checkpoints: Any, family: str, name: str, tmp_path: Path):
    checkpoint = checkpoints(family)
    other = full_model(checkpoint).get_encoder() if name == "T5Gemma2Encoder" else _load(name, checkpoint)
    other.save_pretrained(tmp_path / "in")
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(tmp_path / "in")
    report = extract(tmp_path / "in", tmp_path / "out")
    assert report.max_difference == 0
    assert largest_difference(full_model(checkpoint).get_encoder(), tmp_path / "out", [5, 6, 7, 8]) == 0


def _load(name: str, checkpoint: Path) -> Any:
    config = transformers.AutoConfig.from_pretrained(checkpoint)
    if name == "T5GemmaEncoderModel":
        config.is_encoder_decoder = False
    return getattr(transformers, name).from_pretrained(checkpoint, config=config)


def test_a_t5gemma2_encoder_saved_alone_keeps_its_own_layout(checkpoints: Any, tmp_path: Path):
    checkpoint = checkpoints("t5gemma2")
    full_model(checkpoint).get_encoder().save_pretrained(tmp_path / "in")
    transformers.AutoTokenizer.from_pretrained(checkpoint).save_pretrained(tmp_path / "in")
    extract(tmp_path / "in", tmp_path / "out", layout="t5gemma2")
    assert largest_difference(full_model(checkpoint).get_encoder(), tmp_path / "out", list(range(5, 40))) == 0


def untied(tensors: Tensors) -> Tensors:
    return {**tensors, HEAD: torch.randn_like(tensors[TABLE])}


def test_a_head_of_its_own_is_dropped_as_such(checkpoints: Any, tmp_path: Path):
    checkpoint = changed(checkpoints("t5v1_1"), tmp_path / "in", untied, tie_word_embeddings=False)
    report = extract(checkpoint, tmp_path / "out")
    assert report.dropped[HEAD].startswith("language-model head")
    assert largest_difference(full_model(checkpoint).get_encoder(), tmp_path / "out", [5, 6]) == 0


@pytest.mark.parametrize("lost", [TABLE, HEAD])
def test_neither_table_nor_head_stands_in_for_the_other(checkpoints: Any, lost: str, tmp_path: Path):
    def lose(tensors: Tensors) -> Tensors:
        return {name: tensor for name, tensor in untied(tensors).items() if name != lost}

    checkpoint = changed(checkpoints("t5v1_1"), tmp_path / "in", lose, tie_word_embeddings=False)
    with pytest.raises(CheckpointTensorError, match=f"1 missing tensor: {lost}"):
        extract(checkpoint, tmp_path / "out")


@pytest.mark.parametrize(
    ("family", "table", "alias"),
    [("t5", TABLE, "decoder.embed_tokens.weight"), ("t5gemma2", GEMMA_TABLE, "model.decoder.embed_tokens.weight")],
)
def test_the_decoders_copy_of_the_table_must_equal_it(
    checkpoints: Any, family: str, table: str, alias: str, tmp_path: Path
):
    same = changed(checkpoints(family), tmp_path / "same", lambda kept: {**kept, alias: kept[table].clone()})
    assert extract(same, tmp_path / "out").dropped[alias].startswith("tied alias")
    other = changed(checkpoints(family), tmp_path / "other", lambda kept: {**kept, alias: kept[table] * 2})
    with pytest.raises(CheckpointTensorError, match=f"{alias} should be the same tensor"):
        extract(other, tmp_path / "none")


def test_two_spellings_of_one_tensor_are_refused(checkpoints: Any, tmp_path: Path):
    def double(tensors: Tensors) -> Tensors:
        return {**tensors, "model.encoder.text_model.norm.weight": tensors["model.encoder.norm.weight"] + 1}

    checkpoint = changed(checkpoints("t5gemma2"), tmp_path / "in", double)
    with pytest.raises(CheckpointTensorError, match=r"extra tensor: model\.encoder\.text_model\.norm\.weight"):
        extract(checkpoint, tmp_path / "out")


def test_the_vision_tower_under_its_older_name(checkpoints: Any, tmp_path: Path):
    def older(tensors: Tensors) -> Tensors:
        return {name.replace("vision_tower.", "vision_tower.vision_model."): it for name, it in tensors.items()}

    checkpoint = changed(checkpoints("t5gemma2"), tmp_path / "in", older)
    report = extract(checkpoint, tmp_path / "out", layout="t5gemma2", keep_vision=True)
    assert sum("vision_tower.vision_model." in old and "vision_model" not in new for old, new in renames(report)) > 20


def renames(report: ExtractionReport) -> list[tuple[str, str]]:
    return list(report.renamed.items())


@pytest.mark.parametrize("family", ["t5", "mt5", "umt5"])
def test_a_sentencepiece_model_alone_becomes_a_tokenizer_json(checkpoints: Any, family: str, tmp_path: Path):
    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sample_texts()), model_writer=pieces, vocab_size=250, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    checkpoint = changed(checkpoints(family), tmp_path / "in")
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "spiece.model").write_bytes(pieces.getvalue())
    (checkpoint / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}')
    extract(checkpoint, tmp_path / "out")
    tokenizer = SentenceTransformer(str(tmp_path / "out"), device="cpu").tokenizer
    reference = sentencepiece.SentencePieceProcessor(model_proto=pieces.getvalue())
    for text in ["Hello there.", "Köln, bitte", "नमस्ते 🤖"]:
        assert tokenizer(text)["input_ids"] == [*reference.encode(text), 1]


def test_float16_that_overflows_is_shown_in_bfloat16(checkpoints: Any, tmp_path: Path):
    def loud(tensors: Tensors) -> Tensors:
        return {name: (tensor * 300).half() for name, tensor in tensors.items()}

    checkpoint = changed(checkpoints("t5gemma2"), tmp_path / "in", loud, dtype="float16")
    report = extract(checkpoint, tmp_path / "out")
    assert report.dtype == "F16"
    assert any("overflow float16" in note for note in report.notes)


@pytest.mark.parametrize("config", [{"dtype": None}, {"dtype": -1}, {"dtype": None, "torch_dtype": "bfloat16"}])
def test_a_missing_or_senseless_dtype_becomes_that_of_the_weights(checkpoints: Any, config: Any, tmp_path: Path):
    def half(tensors: Tensors) -> Tensors:
        return {name: tensor.bfloat16() for name, tensor in tensors.items()}

    extract(changed(checkpoints("t5"), tmp_path / "in", half, **config), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def broken(value: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, "encoder.final_layer_norm.weight": value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken(torch.full((32,), torch.nan)), "holds NaN or infinity"),
        (broken(torch.ones(32, dtype=torch.int8)), "stored as I8"),
    ],
)
def test_damaged_and_quantized_weights(checkpoints: Any, change: Any, message: str, tmp_path: Path):
    with pytest.raises(CheckpointTensorError, match=message):
        extract(changed(checkpoints("t5"), tmp_path / "in", change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_a_word_vector_that_no_text_of_the_proof_uses_is_looked_at_too(
    checkpoints: Any, value: float, dtype: str, tmp_path: Path
):
    def damage(tensors: Tensors) -> Tensors:
        tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
        tensors[TABLE][319, 31] = value  # the last row: no token of the tokenizer
        return tensors

    checkpoint = changed(checkpoints("t5"), tmp_path / "in", damage, dtype=dtype)
    with pytest.raises(CheckpointTensorError, match=r"shared\.weight holds NaN or infinity \(number 10239 of 10240\)"):
        extract(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_code_beside_the_source_is_not_named_in_the_written_configuration(checkpoints: Any, tmp_path: Path):
    checkpoint = changed(checkpoints("t5"), tmp_path / "in", auto_map={"AutoModel": "modeling.Surprise"})
    extract(checkpoint, tmp_path / "out")
    assert "auto_map" not in json.loads((tmp_path / "out" / "config.json").read_text())


@pytest.mark.parametrize("family", ["t5gemma", "t5gemma2"])
def test_the_maximum_length_is_not_above_the_positions(family: str, tmp_path: Path):
    sizes = {"max_position_embeddings": 100, "sliding_window": 1001}
    checkpoint = make_checkpoint(family, tmp_path / "checkpoint", config=sizes)
    tokenizer = checkpoint / "tokenizer_config.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"model_max_length": 10**30}))
    assert extract(checkpoint, tmp_path / "out").max_length == 100
    with pytest.raises(InputError, match="takes at most 100 tokens"):
        extract(checkpoint, tmp_path / "other", max_length=101)


@pytest.mark.parametrize("family", ["t5gemma", "t5gemma2"])
def test_a_window_of_no_tokens_is_named(family: str, tmp_path: Path):
    checkpoint = make_checkpoint(family, tmp_path / "checkpoint")
    raw = json.loads((checkpoint / "config.json").read_text())
    encoder = raw["encoder"].get("text_config", raw["encoder"])
    encoder["sliding_window"] = 0
    (checkpoint / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointFamilyError, match="sliding_window = 0, but layers slide"):
        extract(checkpoint, tmp_path / "out")


@pytest.mark.parametrize(
    "config",
    [
        {"d_ff": -1},
        {"d_model": 0},
        {"dense_act_fn": "x"},
        {"dense_act_fn": []},
        {"dropout_rate": 7},
        {"num_layers": 10**9},
        {"architectures": 5},
        {"model_type": []},
        {"pad_token_id": []},
    ],
)
def test_a_configuration_that_makes_no_sense(checkpoints: Any, config: dict[str, Any], tmp_path: Path):
    with pytest.raises(CheckpointError) as caught:
        extract(changed(checkpoints("t5"), tmp_path / "in", **config), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_configuration_that_fails_only_when_it_runs(checkpoints: Any, tmp_path: Path):
    checkpoint = changed(checkpoints("t5gemma2"), tmp_path / "in")
    raw = json.loads((checkpoint / "config.json").read_text())
    raw["encoder"]["text_config"]["query_pre_attn_scalar"] = -1
    (checkpoint / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ProofError, match=r"cannot load or run .* If that speaks of memory"):
        extract(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "modernbert"])
def test_an_encoder_is_sent_to_export(checkpoints: Any, model_type: str, tmp_path: Path):
    config = {"model_type": model_type, "architectures": ["SomethingModel"], "is_encoder_decoder": False}
    with pytest.raises(CheckpointFamilyError, match="encoder already: give it to export"):
        extract(changed(checkpoints("t5"), tmp_path / "in", **config), tmp_path / "out")


def test_the_output_of_an_extraction_is_an_encoder_already(checkpoints: Any, tmp_path: Path):
    extract(checkpoints("t5gemma2"), tmp_path / "out")
    with pytest.raises(CheckpointFamilyError, match="encoder already"):
        extract(tmp_path / "out", tmp_path / "again")


def test_the_checkpoint_is_never_written_over(checkpoints: Any, tmp_path: Path):
    checkpoint = changed(checkpoints("t5"), tmp_path / "in" / "checkpoint")
    for out in (checkpoint, checkpoint.parent):
        with pytest.raises(InputError, match="is or contains the checkpoint"):
            extract(checkpoint, out, overwrite=True)
    assert (checkpoint / "model.safetensors").is_file()
