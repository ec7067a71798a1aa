"""GGUF files hold the same tensors and pieces, and llama.cpp, where it is installed, gives the same vectors."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import make_checkpoint
from tiny_tokenizers import as_sentencepiece, save_tokenizer, tokenizer_of
from tokenizers import Tokenizer

from encoder_tools.errors import ExportError, FileMissingError, InputError
from encoder_tools.extraction import extract
from encoder_tools.gguf_export import export_gguf
from encoder_tools.gguf_export.gguf_vocabulary import BYTE, CONTROL, USER_DEFINED, gguf_vocabulary
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.runtime import OnnxEncoder

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "head_dim": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "query_pre_attn_scalar": 64,
    "sliding_window": 64,
    "max_position_embeddings": 256,
}
TEXTS = [*list(real_sentences())[::5], "  two  spaces", "🤖🚀 你好", "line\nbreak\n\nand more", "a", "<unused0> x"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return as_sentencepiece(tokenizer_of("bpe with bytes"))


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extracted T5Gemma 2 encoder with a tokenizer of Gemma's kind and a dense layer."""
    folder = tmp_path_factory.mktemp("gguf")
    make_checkpoint("t5gemma2", folder / "checkpoint", config={**SIZES, "vocab_size": tokenizer.get_vocab_size() + 3})
    save_tokenizer(tokenizer, folder / "checkpoint", 256)
    extract(folder / "checkpoint", folder / "model", dense=(64,))
    return folder / "model"


def written_tensors(file: Path) -> dict[str, np.ndarray]:
    """Tensors of a GGUF file in float32, read by the gguf package."""
    gguf = pytest.importorskip("gguf")
    read = gguf.GGUFReader(file).tensors
    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in read}


def fields(file: Path) -> dict[str, Any]:
    gguf = pytest.importorskip("gguf")
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 0.0), ("f16", 1e-3), ("q8_0", 1e-2)])
def test_every_tensor_is_there_with_its_values(model: Path, dtype: Any, tolerance: float, tmp_path: Path):
    report = export_gguf(model, tmp_path / "out.gguf", dtype=dtype)
    written = written_tensors(report.file)
    stored = load_file(model / "model.safetensors")
    assert report.tensors == len(written) == len(stored) + 1
    largest = max(float(np.abs(value).max()) for value in written.values())
    table = stored[next(name for name in stored if "embed_tokens" in name)]
    np.testing.assert_allclose(written["token_embd.weight"], table, rtol=0, atol=tolerance * largest)
    norm = stored[next(name for name in stored if name.endswith("layers.0.input_layernorm.weight"))]
    np.testing.assert_array_equal(written["blk.0.attn_norm.weight"], norm + 1)
    query = stored[next(name for name in stored if name.endswith("layers.0.self_attn.q_norm.weight"))]
    np.testing.assert_allclose(written["blk.0.attn_q_norm.weight"], (query + 1) * math.sqrt(32 / 64), rtol=1e-6)
    dense = load_file(model / "2_Dense" / "model.safetensors")["linear.weight"]
    np.testing.assert_allclose(written["dense_2.weight"], dense, rtol=0, atol=tolerance * largest)
    assert [file.name for file in tmp_path.iterdir()] == ["out.gguf"]


def test_the_metadata_are_the_models(model: Path, tmp_path: Path):
    config = json.loads((model / "config.json").read_text())
    found = fields(export_gguf(model, tmp_path / "out.gguf").file)
    prefix = "gemma-embedding."
    assert found["general.architecture"] == "gemma-embedding"
    assert found[prefix + "attention.sliding_window"] == config["sliding_window"]
    assert found[prefix + "attention.sliding_window_pattern"] == [
        kind == "sliding_attention" for kind in config["layer_types"]
    ]
    assert found[prefix + "rope.freq_base"] == config["rope_parameters"]["full_attention"]["rope_theta"]
    assert found[prefix + "pooling_type"] == 1
    assert found[prefix + "attention.causal"] is False
    assert found[prefix + "embedding_length_out"] == 64
    assert found["tokenizer.ggml.add_bos_token"] is True


def merged_by_score(text: str, tokens: dict[str, int], scores: list[float]) -> list[str]:
    """Pieces as llama.cpp finds them: the neighbors whose joint piece has the highest score are joined first."""
    parts = list(text)
    while True:
        joint = [left + right for left, right in pairwise(parts)]
        known = [(-scores[tokens[whole]], place) for place, whole in enumerate(joint) if whole in tokens]
        if not known:
            break
        _, place = min(known)
        parts[place : place + 2] = [joint[place]]
    return [
        piece
        for part in parts
        for piece in ([part] if part in tokens else [f"<0x{byte:02X}>" for byte in part.encode()])
    ]


def test_pieces_are_those_of_the_tokenizer(model: Path, tokenizer: Tokenizer):
    config = json.loads((model / "config.json").read_text())
    made = gguf_vocabulary(json.loads((model / "tokenizer.json").read_text()), config, config["vocab_size"])
    kinds = dict(zip(made.tokens, made.types, strict=True))
    assert (kinds["<bos>"], kinds["<0x41>"], kinds["<unused0>"]) == (CONTROL, BYTE, USER_DEFINED)
    tokens = {token: number for number, token in enumerate(made.tokens) if made.types[number] == 1}
    for text in real_sentences():
        expected = tokenizer.encode(text, add_special_tokens=False).tokens
        assert merged_by_score(text.replace(" ", "▁"), tokens, list(made.scores)) == expected


def test_llama_cpp_gives_the_same_vectors(model: Path, tmp_path: Path):
    llama_cpp = pytest.importorskip("llama_cpp")
    export(model)
    encoder = OnnxEncoder(model, threads=1)
    file = export_gguf(model, tmp_path / "out.gguf").file
    llama = llama_cpp.Llama(str(file), embedding=True, verbose=False, n_ctx=256, n_batch=256, n_ubatch=256)
    assert [llama.tokenize(text.encode(), add_bos=True, special=False) for text in TEXTS] == encoder.tokenize(TEXTS)
    vectors = np.array([llama.embed(text, normalize=True) for text in TEXTS])
    assert (vectors * encoder.encode(TEXTS)).sum(axis=1).min() >= 0.999


def test_what_llama_cpp_would_compute_otherwise_is_refused(model: Path, tmp_path: Path):
    def changed(file: str, **settings: Any) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for part in model.rglob("*"):
            if part.is_file() and "onnx" not in part.parts:
                (folder / part.relative_to(model)).parent.mkdir(exist_ok=True, parents=True)
                (folder / part.relative_to(model)).write_bytes(part.read_bytes())
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | settings))
        return folder

    for file, settings, says in [
        ("config.json", {"use_bidirectional_attention": False}, "in the Gemma 3 layout"),
        ("config.json", {"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ("1_Pooling/config.json", {"pooling_mode": "max"}, "pools by max"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"}, "bias or an activation"),
        ("tokenizer.json", {"normalizer": {"type": "NFC"}}, "with the normalizer 'NFC'"),
    ]:
        with pytest.raises(ExportError, match=says):
            export_gguf(changed(file, **settings), tmp_path / "out.gguf")
    extract(make_checkpoint("t5", tmp_path / "t5"), tmp_path / "t5_model")
    with pytest.raises(ExportError, match="'t5'"):
        export_gguf(tmp_path / "t5_model")
    with pytest.raises(InputError, match="q4"):
        export_gguf(model, dtype="q4")  # type: ignore[arg-type]
    with pytest.raises(FileMissingError):
        export_gguf(tmp_path / "nowhere")
    assert not list(tmp_path.glob("*.gguf*"))


def test_merges_that_scores_cannot_follow_are_refused():
    plain = json.loads(tokenizer_of("bpe with bytes").to_str())
    with pytest.raises(ExportError, match="never merges"):
        gguf_vocabulary(plain, {}, 5000)
