"""OpenVINO gives the vectors of ONNX Runtime, exactly in fp32 and as near as measured in bf16."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny import make_checkpoint

from encoder_tools.errors import FileCorruptError, MissingExtraError, ProviderError
from encoder_tools.extraction import extract
from encoder_tools.machine.processor import Processor
from encoder_tools.onnx_export import export, variants
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.runtime import OnnxEncoder
from encoder_tools.runtime.automatic import choose_variant
from encoder_tools.runtime.openvino_session import OpenVinoSession

pytest.importorskip("openvino")
TEXTS = [*list(real_sentences())[::10], "", "a", "word " * 300]


@pytest.mark.parametrize("name", ["default", "minilm"])
def test_fp32_is_exact_also_where_weights_are_stored_as_int8(name: str, minilm: Path):
    model = minilm if name == "minilm" else "default"
    encoder = OnnxEncoder(model, provider="openvino", threads=1)
    expected = OnnxEncoder(model, threads=1)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected.encode(TEXTS), rtol=0, atol=1e-5)
    assert encoder.fingerprint == expected.fingerprint


@pytest.mark.parametrize("family", ["t5", "t5gemma2", "bart", "longt5"])
def test_every_family_runs(family: str, tmp_path: Path):
    extract(make_checkpoint(family, tmp_path / "checkpoint"), tmp_path / "model", dense=(24,))
    export(tmp_path / "model")
    encoder = OnnxEncoder(tmp_path / "model", provider="openvino", threads=1)
    expected = OnnxEncoder(tmp_path / "model", threads=1).encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, rtol=0, atol=2e-5)


def test_several_threads_may_run_it(minilm: Path):
    encoder = OnnxEncoder(minilm, provider="openvino", threads=1)
    expected = [encoder.encode([text]) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for vector, right in zip(pool.map(lambda text: encoder.encode([text]), TEXTS), expected, strict=True):
                np.testing.assert_allclose(vector, right, rtol=0, atol=1e-6)


def test_bf16_is_near_and_auto_takes_it_where_the_processor_computes_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(variants, "_MOST", 100)
    extract(make_checkpoint("t5gemma2", tmp_path / "checkpoint"), tmp_path / "model", dense=(24,))
    export(tmp_path / "model", precision="bf16", min_cosine=0.9)
    encoder = OnnxEncoder(tmp_path / "model", variant="bf16", provider="openvino", threads=1)
    exact = OnnxEncoder(tmp_path / "model", threads=1).encode(TEXTS)
    assert (encoder.encode(TEXTS) * exact).sum(axis=1).min() > 0.99
    able, unable = (Processor("a", "x86_64", features, 2, 2) for features in (("avx512-bf16",), ("avx2",)))
    assert choose_variant(encoder.manifest, "openvino", able).variant == "bf16"
    assert choose_variant(encoder.manifest, "openvino", unable).variant == "fp32"
    with pytest.raises(ProviderError, match="openvino"):
        OnnxEncoder(tmp_path / "model", variant="bf16")


def test_the_int8_graph_runs_too(minilm: Path):
    encoder = OnnxEncoder(minilm, variant="qint8", provider="openvino", threads=1)
    assert (encoder.encode(TEXTS) * OnnxEncoder(minilm, threads=1).encode(TEXTS)).sum(axis=1).min() > 0.97


def test_what_it_cannot_run_says_why(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(FileCorruptError, match=r"broken\.onnx"):
        OpenVinoSession(tmp_path / "broken.onnx", 1)
    monkeypatch.setattr("encoder_tools.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"encoder-tools\[openvino\]"):
        OpenVinoSession(minilm / "onnx" / "model.onnx", 1)
