"""Options of providers, buffers on a device, and nodes that a provider does not have."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from encoder_tools.errors import InputError
from encoder_tools.model.tokenizer import padded_batches
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.runtime import OnnxEncoder, device_buffers
from encoder_tools.runtime.captured import CapturedQueries
from encoder_tools.runtime.device_buffers import DeviceBuffers
from encoder_tools.runtime.placement import RECORD, fallen, in_words, nodes_by_provider
from encoder_tools.runtime.providers import PROVIDERS, ort_providers, provider_settings
from encoder_tools.runtime.session import open_session


def test_every_provider_has_options_in_one_place():
    for name in PROVIDERS:
        (first, options), *_ = ort_providers(name)
        assert first == provider_settings(name).ort_name
        assert all(isinstance(value, str) for value in options.values())
    with pytest.raises(InputError, match="Unknown provider 'tpu'; expected one of cpu, cuda, tensorrt"):
        provider_settings("tpu")


def test_products_of_float32_are_not_rounded_to_ten_bits_on_a_gpu():
    assert dict(ort_providers("cuda")[0][1])["use_tf32"] == "0"
    assert ort_providers("tensorrt")[1] == ort_providers("cuda")[0]  # what TensorRT does not have goes to CUDA


def test_a_card_is_named_to_whatever_runs_on_one():
    for name in PROVIDERS:
        for settings, (_, options) in zip([provider_settings(name)], ort_providers(name, 3), strict=False):
            assert options.get("device_id") == (None if settings.device is None else "3")
    assert [options["device_id"] for _, options in ort_providers("tensorrt", 1)] == ["1", "1"]


def test_captured_queries_give_what_the_session_gives(encoder: OnnxEncoder, minilm: Path):
    """The buffers and widths, on a CPU, which captures nothing; the rest is a card's."""
    session = open_session(minilm / "onnx" / "model.onnx", "cpu", 1)
    captured = CapturedQueries(session, "cpu", 0, output="sentence_embedding", pad_id=0, dim=encoder.dim)
    ids = encoder.tokenize([" ".join(["word"] * count) for count in (1, 5, 6, 7, 29, 30, 31, 60, 62, 63, 200)])
    for _ in range(2):  # the second time every buffer is one that was used
        with ThreadPoolExecutor(4) as pool:
            batches = [next(padded_batches([row], 2048, 0)) for row in ids]
            vectors = list(pool.map(captured.run, batches))
        for row, vector in zip(ids, vectors, strict=True):
            assert (vector is None) == (len(row) > 64)
            if vector is not None:
                np.testing.assert_allclose(vector, encoder.encode_tokens([row]), rtol=0, atol=2e-6)
    assert captured.run(next(padded_batches(ids[:2], 2048, 0))) is None
    with pytest.raises(InputError, match="captured on provider 'cuda' only"):
        encoder.capture_queries()


def test_a_cpu_has_no_further_devices(minilm: Path):
    with pytest.raises(InputError, match="runs on 'cpu', which has no further devices"):
        OnnxEncoder(minilm, threads=1).on_device(1)


def test_bound_buffers_give_the_same_vectors_from_many_threads(minilm: Path, monkeypatch: pytest.MonkeyPatch):
    """On a CPU here; a GPU's memory differs only in its name."""
    monkeypatch.setattr(device_buffers, "_KEPT", 3)
    encoder = OnnxEncoder(minilm, threads=1)
    texts = list(real_sentences())[:40]
    expected = [encoder.encode([text]) for text in texts]
    buffers = DeviceBuffers(encoder._session, "cpu")
    monkeypatch.setattr(encoder, "_buffers", buffers)
    with ThreadPoolExecutor(8) as pool:
        bound = list(pool.map(lambda text: encoder.encode([text]), texts * 3))
    for row, vector in enumerate(bound):
        np.testing.assert_allclose(vector, expected[row % len(texts)], rtol=0, atol=1e-6)
    assert 0 < len(buffers._own.__dict__.get("buffers", {})) <= 3 or not buffers._own.__dict__


def test_nodes_on_the_cpu_are_named_except_those_that_compute_sizes(minilm: Path):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(RECORD, "1")
    session = onnxruntime.InferenceSession(
        str(minilm / "onnx" / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    placed = nodes_by_provider(session)
    assert set(placed) == {"CPUExecutionProvider"}
    left = fallen(placed)
    assert left
    assert "Shape" not in left
    assert in_words(Counter({"Gelu": 6, "Attention": 2})) == "Gelu (6), Attention (2)"
    assert nodes_by_provider(open_session(minilm / "onnx" / "model.onnx", "cpu", 1)) == {}


def test_a_batch_is_as_large_as_suits_the_provider(minilm: Path):
    assert OnnxEncoder(minilm, threads=1)._max_tokens == provider_settings("cpu").max_tokens
    assert OnnxEncoder(minilm, threads=1, max_tokens=64)._max_tokens == 64
    assert provider_settings("cuda").max_tokens > provider_settings("cpu").max_tokens
