from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sentence_transformers import SentenceTransformer

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, ProviderError
from encoder_tools.protocols import TextEncoder
from encoder_tools.runtime import OnnxEncoder

TEXTS = ["A short text.", "", "مرحبا", "🤖 " * 40, "A much longer text, with many words in it. " * 30, "a"]


@pytest.fixture(scope="module")
def torch_model(minilm: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm), device="cpu")


def test_vectors_are_those_of_sentence_transformers(encoder: OnnxEncoder, torch_model: SentenceTransformer):
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(vectors, torch_model.encode(TEXTS), atol=1e-5)


def test_the_graph_itself_gives_the_same_vectors(minilm: Path, encoder: OnnxEncoder):
    session = onnxruntime.InferenceSession(str(minilm / "onnx" / "model.onnx"))
    (ids,) = encoder.tokenize(TEXTS[:1])
    feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
    tokens, sentence = session.run(["token_embeddings", "sentence_embedding"], feed)
    assert tokens.shape == (1, len(ids), 384)
    np.testing.assert_allclose(sentence, encoder.encode(TEXTS[:1]), atol=1e-6)


def test_vectors_of_tokens_are_the_graphs_own_without_special_tokens(minilm: Path, encoder: OnnxEncoder):
    session = onnxruntime.InferenceSession(str(minilm / "onnx" / "model.onnx"))
    texts = [*TEXTS, ""]
    for text, vectors in zip(texts, encoder.token_vectors(texts, role="document"), strict=True):
        (ids,) = encoder.tokenize([text], prompt_name="document" if "document" in encoder.prompts else None)
        feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
        hidden = session.run(["token_embeddings"], feed)[0][0][1:-1]
        assert vectors.shape == (len(ids) - 2, 384)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, hidden / np.linalg.norm(hidden, axis=1, keepdims=True), atol=1e-5)


def test_a_text_has_the_same_vector_alone_and_in_any_batch(encoder: OnnxEncoder):
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    shuffled = encoder.encode(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(shuffled, together, atol=1e-6)


def test_order_holds_across_windows(encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch):
    texts = [f"{'word ' * (n % 7)}{n}" for n in range(40)]
    whole = encoder.encode(texts)
    monkeypatch.setattr("encoder_tools.runtime.encoder._WINDOW", 9)
    np.testing.assert_allclose(encoder.encode(texts), whole, atol=1e-6)


def test_truncated_vectors_are_unit_vectors(encoder: OnnxEncoder):
    full, cut = encoder.encode(TEXTS), encoder.encode(TEXTS, dim=64)
    expected = full[:, :64] / np.linalg.norm(full[:, :64], axis=1, keepdims=True)
    assert cut.shape == (len(TEXTS), 64)
    np.testing.assert_allclose(cut, expected, atol=1e-6)


def test_default_dim_is_kept_by_every_method(minilm: Path):
    encoder = OnnxEncoder(minilm, dim=32, threads=1)
    assert encoder.dim == 32
    assert encoder.encode(["a"]).shape == encoder.encode_tokens([[101, 102]]).shape == (1, 32)


@pytest.mark.parametrize("dim", [0, 385, -1, True, 3.0, "8"])
def test_impossible_dims_are_refused(encoder: OnnxEncoder, dim: object):
    with pytest.raises(InputError, match="1 to 384"):
        encoder.encode(["a"], dim=dim)


def test_token_ids_give_the_vectors_of_their_texts(encoder: OnnxEncoder):
    np.testing.assert_allclose(encoder.encode_tokens(encoder.tokenize(TEXTS)), encoder.encode(TEXTS), atol=1e-6)


def test_no_texts_give_no_vectors(encoder: OnnxEncoder):
    assert encoder.encode([]).shape == (0, 384)


PROMPT_SETS: list[dict[str, Any]] = [
    {"prompts": {"query": "find: ", "passage": "text: ", "sts": "same: "}, "default_prompt_name": "sts"},
    {"prompts": {"query": "find: ", "document": "text: ", "corpus": "all: "}},
    {"prompts": {"query": None, "document": "", "passage": "text: "}, "default_prompt_name": "passage"},
    {"prompts": {"corpus": "all: "}, "default_prompt_name": "query"},
    {"prompts": {}},
    {},
]


@pytest.mark.parametrize("config", PROMPT_SETS, ids=json.dumps)
def test_prompts_are_those_of_sentence_transformers(minilm_copy: Path, config: dict[str, Any]):
    (minilm_copy / "config_sentence_transformers.json").write_text(json.dumps(config), encoding="utf-8")
    ours, theirs = OnnxEncoder(minilm_copy, threads=1, verify=False), SentenceTransformer(str(minilm_copy))
    assert dict(ours.prompts) == theirs.prompts
    for method in ("encode", "encode_query", "encode_document"):
        for options in [{}, {"prompt": "new: "}, {"prompt": ""}, *({"prompt_name": name} for name in theirs.prompts)]:
            found, wanted = getattr(ours, method)(["cat"], **options), getattr(theirs, method)(["cat"], **options)
            np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=f"{method} {options}")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prompt_name": "other"}, r"no prompt named 'other'; it has \['document', 'query'\]"),
        ({"prompt_name": ["query"]}, r"no prompt named \['query'\]"),
        ({"prompt": 5}, "prompt is 5, expected a text"),
        ({"prompt": "\ud800"}, "valid Unicode"),
        ({"dim": "8"}, "dim is '8', expected an integer from 1 to 384"),
    ],
    ids=str,
)
def test_wrong_options_are_one_clear_error(encoder: OnnxEncoder, options: dict[str, Any], says: str):
    for method in (encoder.encode, encoder.encode_query, encoder.encode_document):
        with pytest.raises(InputError, match=says):
            method(["cat"], **options)


@pytest.mark.parametrize("ids", [None, 5, "ab", [5], [None], ["ab"], [[2.0]], [[True]], [[]], [[10**9]], [[-1]]])
def test_wrong_token_ids_are_one_clear_error(encoder: OnnxEncoder, ids: Any):
    with pytest.raises(InputError):
        encoder.encode_tokens(ids)


@pytest.mark.parametrize(
    "options",
    [{"threads": "2"}, {"threads": 0}, {"threads": 5000}, {"threads": True}, {"max_tokens": 0}, {"max_tokens": "9"}],
    ids=str,
)
def test_impossible_settings_are_one_clear_error(minilm: Path, options: dict[str, Any]):
    with pytest.raises(InputError, match=r"expected an integer (from|of) 1"):
        OnnxEncoder(minilm, **options)


def test_numpy_integers_are_integers(encoder: OnnxEncoder):
    assert encoder.encode(["a"], dim=np.int64(16)).shape == (1, 16)


def test_asking_for_a_gpu_that_is_not_there_is_an_error(minilm: Path):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has a GPU runtime")
    with pytest.raises(ProviderError, match="pip install onnxruntime-gpu"):
        OnnxEncoder(minilm, provider="cuda")


def test_unknown_provider_and_variant_are_named(minilm: Path):
    with pytest.raises(InputError, match="Unknown provider 'tpu'"):
        OnnxEncoder(minilm, provider="tpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no variant 'fp8'; it has fp32, qint8"):
        OnnxEncoder(minilm, variant="fp8")


def test_the_qint8_variant_is_near_and_has_a_mark_of_its_own(minilm: Path, encoder: OnnxEncoder):
    quantized = OnnxEncoder(minilm, variant="qint8", threads=1)
    cosines = (quantized.encode(TEXTS) * encoder.encode(TEXTS)).sum(axis=1)
    assert cosines.min() >= quantized.manifest.graphs["qint8"].min_cosine - 0.01
    assert 0.95 < cosines.min() <= cosines.max() < 1 - 1e-6  # another graph, and a near one
    assert quantized.fingerprint == f"{encoder.fingerprint}-qint8"


def test_it_is_a_text_encoder(encoder: OnnxEncoder):
    assert isinstance(encoder, TextEncoder)


def test_a_corrupted_graph_is_one_clear_error(minilm_copy: Path):
    graph = minilm_copy / "onnx" / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(FileCorruptError, match="SHA-256 differs"):
        OnnxEncoder(minilm_copy)
    graph.write_bytes(data[:1000])
    with pytest.raises(FileCorruptError, match="cannot read"):
        OnnxEncoder(minilm_copy, verify=False)


def test_a_model_that_changed_after_its_export_is_refused(minilm_copy: Path):
    weights = minilm_copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(FileCorruptError, match=r"other weights.*encoder-tools export"):
        OnnxEncoder(minilm_copy)


def test_the_tokenizer_is_part_of_the_fingerprint(minilm_copy: Path):
    tokenizer = minilm_copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text(encoding="utf-8").replace('"lowercase":true', '"lowercase":false'))
    with pytest.raises(FileCorruptError, match="other configuration, tokenizer"):
        OnnxEncoder(minilm_copy)


def test_missing_files_say_what_to_do(tmp_path: Path, minilm_copy: Path):
    with pytest.raises(FileMissingError, match="is not a folder"):
        OnnxEncoder(tmp_path / "nothing")
    with pytest.raises(FileMissingError, match="encoder-tools extract"):
        OnnxEncoder(tmp_path)
    (minilm_copy / "onnx" / "export.json").unlink()
    with pytest.raises(FileMissingError, match="encoder-tools export"):
        OnnxEncoder(minilm_copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("modules.json", "[]"),
        ("modules.json", '{"a": 1}'),
        ("modules.json", '[{"idx":0,"name":"0","path":"../..","type":"x.Transformer"}]'),
        ("1_Pooling/config.json", '{"embedding_dimension": "wide"}'),
        ("config_sentence_transformers.json", '{"prompts": ["a"]}'),
        ("onnx/export.json", '{"format": "encoder-tools-export", "format_version": 99}'),
        ("onnx/export.json", '{"format": "encoder-tools-export", "format_version": 1}'),
        ("onnx/export.json", "not json"),
    ],
)
def test_damaged_descriptions_are_one_clear_error(minilm_copy: Path, file: str, content: str):
    (minilm_copy / file).write_text(content, encoding="utf-8")
    with pytest.raises(FileCorruptError) as caught:
        OnnxEncoder(minilm_copy)
    assert "\n" not in str(caught.value)
