"""Identity covers all that is loaded; lengths end where positions do; folders of other kinds say what they are."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from encoder_tools.errors import ExportError, FileCorruptError, FileMissingError, InputError
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.positions import most_positions
from encoder_tools.model.tokenizer import padded_batches
from encoder_tools.onnx_export import export
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.runtime.manifest import Manifest

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
VOCABULARY = 30522


def plain(folder: Path, source: Path, model: Any) -> Path:
    """A transformer as transformers saves it, with all-MiniLM's tokenizer."""
    torch.manual_seed(0)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
    return folder


def bert(**changes: Any) -> Any:
    return transformers.BertModel(transformers.BertConfig(**{**SIZES, **changes}))


def with_dense(folder: Path, source: Path, seed: int) -> Path:
    """As LaBSE is saved: a safetensors body, and a Dense layer in pytorch_model.bin."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    body = plain(folder.with_name(f"{folder.name}-body"), source, bert())
    torch.manual_seed(seed)
    model = SentenceTransformer(str(body), device="cpu")
    model.append(Dense(32, 16))
    model.save_pretrained(str(folder))
    dense = folder / "2_Dense"
    torch.save(load_file(dense / "model.safetensors"), dense / "pytorch_model.bin")
    (dense / "model.safetensors").unlink()
    return folder


def test_a_dense_layer_that_is_no_safetensors_belongs_to_the_model(tmp_path: Path, minilm_source: Path):
    first = with_dense(tmp_path / "first", minilm_source, 1)
    export(first)
    before = OnnxEncoder(first)
    assert "2_Dense/pytorch_model.bin" in {file.relative_to(first).as_posix() for file in before.folder.weight_files}
    other = with_dense(tmp_path / "other", minilm_source, 2)
    shutil.copy(other / "2_Dense" / "pytorch_model.bin", first / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(FileCorruptError, match="changed after its export: other weights"):
        OnnxEncoder(first)
    export(first)
    assert OnnxEncoder(first).fingerprint != before.fingerprint


def test_an_adapter_is_refused_with_the_way_out(tmp_path: Path, minilm_source: Path):
    folder = plain(tmp_path / "model", minilm_source, bert())
    export(folder)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somewhere"}')
    with pytest.raises(FileCorruptError, match="merge the two first"):
        OnnxEncoder(folder)
    with pytest.raises(ExportError, match="merge the two first"):
        export(folder)


def test_a_vocabulary_that_changed_is_seen(tmp_path: Path, minilm_source: Path):
    """Where there is no tokenizer.json, the export's own is made of other files."""
    folder = plain(tmp_path / "model", minilm_source, bert())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "model_max_length": 128}')
    vocabulary = json.loads((minilm_source / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n", encoding="utf-8")
    export(folder)
    OnnxEncoder(folder)
    words = (folder / "vocab.txt").read_text(encoding="utf-8").replace("\ncat\n", "\ncatx\n")
    (folder / "vocab.txt").write_text(words, encoding="utf-8")
    with pytest.raises(FileCorruptError, match=r"vocab\.txt changed after the export"):
        OnnxEncoder(folder)


def test_the_export_says_how_much_a_batch_matters(minilm: Path):
    graphs = Manifest.read(ModelFolder.open(minilm)).graphs
    assert (graphs["fp32"].padding_difference or 0) <= 1e-5
    assert (graphs["qint8"].padding_min_cosine or 1) < 0.99999


def test_a_model_whose_vectors_change_with_padding_is_not_padded(minilm_copy: Path, monkeypatch: pytest.MonkeyPatch):
    manifest = minilm_copy / "onnx" / "export.json"
    content = json.loads(manifest.read_text())
    content["graphs"]["fp32"]["padding_difference"] = 2e-2
    manifest.write_text(json.dumps(content))
    encoder = OnnxEncoder(minilm_copy)
    batches: list[Any] = []
    run = type(encoder)._run
    monkeypatch.setattr(type(encoder), "_run", lambda self, batch: (batches.append(batch), run(self, batch))[1])
    texts = ["a", "b c", "d", "e f g", "h i"]
    vectors = encoder.encode(texts)
    assert all(batch.attention_mask.all() for batch in batches)
    assert len(batches) == 3
    assert np.abs(vectors - np.concatenate([encoder.encode([text]) for text in texts])).max() < 1e-5


@pytest.mark.parametrize("budget", [1, 7, 100])
def test_batches_without_padding_hold_every_text_once(budget: int):
    lengths = np.random.default_rng(0).integers(1, 9, size=60)
    ids = [[1] * int(length) for length in lengths]
    batches = list(padded_batches(ids, budget, 0, pads=False))
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(60))
    assert all(batch.attention_mask.all() for batch in batches)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "bert", "max_position_embeddings": 128}, 128),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512, "position_embedding_type": "relative_key"}, None),
        ({"model_type": "t5", "n_positions": 512}, None),
        ({"model_type": "gemma3_text", "max_position_embeddings": 2048}, None),
        ({}, None),
    ],
)
def test_positions(config: Any, most: int | None):
    assert most_positions(config) == most


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_limit_above_the_positions_is_capped(tmp_path: Path, minilm_source: Path, kind: str):
    if kind == "bert":
        model = bert(max_position_embeddings=128)
    else:
        config = transformers.XLMRobertaConfig(
            **SIZES, vocab_size=VOCABULARY, max_position_embeddings=130, pad_token_id=1
        )
        model = transformers.XLMRobertaModel(config)
    folder = plain(tmp_path / "model", minilm_source, model)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    said: list[str] = []
    export(folder, log=said.append)
    assert any("mean pooling, as sentence-transformers takes" in line for line in said)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 512}')
    export(folder)
    encoder = OnnxEncoder(folder)
    assert encoder.max_length == 128
    assert np.isfinite(encoder.encode(["word " * 600])).all()


def test_a_body_in_a_folder_of_its_own(tmp_path: Path, minilm_source: Path):
    folder = tmp_path / "model"
    plain(folder / "0_Transformer", minilm_source, bert())
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 32, "pooling_mode": "mean"}')
    modules = [("0_Transformer", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for n, (path, kind) in enumerate(modules)
            ]
        )
    )
    export(folder)
    assert OnnxEncoder(folder).encode(["a text"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("kind", "says"),
    [("StaticEmbedding", "static model"), ("Router", "Router"), ("MLMTransformer", "SPLADE"), ("CLIPModel", "CLIP")],
)
def test_other_kinds_of_models_are_named(tmp_path: Path, kind: str, says: str):
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"sentence_transformers.models.{kind}"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=says) as caught:
        ModelFolder.open(tmp_path)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-tools extract"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "--reranker"),
        ({"model_type": "bert", "hidden_size": 32}, "encoder-tools export"),
        (None, "encoder-tools extract"),
    ],
)
def test_a_folder_without_modules_is_told_its_way(tmp_path: Path, config: Any, says: str):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileMissingError, match=says):
        ModelFolder.open(tmp_path)


def test_an_architecture_that_cannot_be_exported_is_one_clear_line(tmp_path: Path, minilm_source: Path):
    config = transformers.FunnelConfig(d_model=32, n_head=4, d_head=8, d_inner=48, block_sizes=[1, 1, 1])
    folder = plain(tmp_path / "model", minilm_source, transformers.FunnelModel(config))
    with pytest.raises(ExportError):
        export(folder)
    assert not (folder / "onnx").exists()
